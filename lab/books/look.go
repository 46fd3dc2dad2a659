package books

import (
	"context"
	"errors"
	"fmt"
)

// look is what the machine was like at one moment.
type look struct {
	host        host
	allocs      map[string]bool // by ID, those that are not over
	tasks       []task          // those that run
	users       []user          // root, and those who may have a podman
	containers  []container     // everybody's, in any state
	processes   []process       // by PID
	follows     []follow        // what the log process says that it follows
	connections []connection    // to podman's sockets
}

// look collects what the checks compare. Nomad comes first: what it says runs must be there afterwards.
func (m *machine) look(ctx context.Context) (*look, error) {
	l := &look{host: m.host}
	for _, part := range []struct {
		name string
		take func(context.Context, *look) error
	}{
		{"Nomad's allocations", m.takeTasks},
		{"the users", m.takeUsers},
		{"podman's containers", m.takeContainers},
		{"the processes", m.takeProcesses},
		{"the log process' list", m.takeFollows},
		{"connections", m.takeConnections},
	} {
		if err := part.take(ctx, l); err != nil {
			return nil, fmt.Errorf("books: looking at %s: %w", part.name, errors.Join(err, context.Cause(ctx)))
		}
	}
	return l, nil
}

// isRunning tells whether Nomad says so of a task.
func (l *look) isRunning(wanted task) bool {
	for _, t := range l.tasks {
		if t == wanted {
			return true
		}
	}
	return false
}

// running are the running containers, by ID, whoever's they are. One that is not a task's is reported as a container,
// and what it needs on the machine is not reported again.
func (l *look) running() map[string]container {
	running := map[string]container{}
	for _, c := range l.containers {
		if c.runs() {
			running[c.ID] = c
		}
	}
	return running
}

// ofTasks are the running containers of running tasks, by ID.
func (l *look) ofTasks() map[string]container {
	running := l.running()
	for id, c := range running {
		if t, labelled := c.task(); !labelled || !l.isRunning(t) {
			delete(running, id)
		}
	}
	return running
}
