package driver

import (
	"context"
	"fmt"
	"sync"
)

// claims are the names of containers that somebody has in hand: a task from its start until it is destroyed, or the
// reconciler while it removes what is left of one. Without the claim nobody creates or removes a container.
type claims struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the claim ends
}

// try claims a name, unless somebody has it.
func (c *claims) try(container string) bool {
	_, held := c.claim(container)
	return !held
}

// wait claims a name as soon as nobody has it.
func (c *claims) wait(ctx context.Context, container string) error {
	for {
		free, held := c.claim(container)
		if !held {
			return nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return fmt.Errorf("container %s is still being removed: %w", container, context.Cause(ctx))
		}
	}
}

func (c *claims) claim(container string) (free <-chan struct{}, held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if free, held := c.held[container]; held {
		return free, true
	}
	if c.held == nil {
		c.held = map[string]chan struct{}{}
	}
	c.held[container] = make(chan struct{})
	return nil, false
}

// release ends a claim.
func (c *claims) release(container string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if free, held := c.held[container]; held {
		close(free)
		delete(c.held, container)
	}
}
