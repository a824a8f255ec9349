package statedb

// Break makes the next use of an open database fail.
func (d *File) Break() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.db.Close()
}
