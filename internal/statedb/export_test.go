package statedb

// Break makes the next use of an open database fail.
func (t *Table[V]) Break() error {
	t.disk.Lock()
	defer t.disk.Unlock()
	return t.db.Close()
}
