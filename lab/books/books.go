// Package books compares what Nomad thinks runs with what is on the machine: containers of every user, mounts, cgroups,
// network namespaces, processes, and what the driver and its log process hold. It runs as root in the lab's machine,
// after tests.
package books

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// patience is how long what is over may take to be cleaned away. podman's service ends after five idle seconds
	// (podman-system-service(1)).
	patience = 30 * time.Second
	// pace is the time between two looks.
	pace = time.Second
)

// check is one comparison.
type check struct {
	name string
	// find describes what is left over, or missing, with where it is and whose.
	find func(*look) ([]string, error)
}

var checks = []check{
	{"tasks", tasksWithoutContainer},
	{"containers", strayContainers},
	{"storage", strayStorage},
	{"mounts", strayMounts},
	{"stages", strayStages},
	{"cgroups", strayCgroups},
	{"network namespaces", strayNamespaces},
	{"network helpers", strayHelpers},
	{"conmon", strayMonitors},
	{"podman services", podmanServices},
	{"podman connections", podmanConnections},
	{"followed logs", followedLogs},
	{"journal readers", journalReaders},
	{"log process", logDescriptors},
	{"log state", logState},
	{"FIFOs", unwrittenFIFOs},
	{"intents", intents},
	{"driver", driverProcess},
	{"driver's descriptors", driverDescriptors},
}

// Check prints what is left over, one line each, and returns how much. It looks again, for up to half a minute, until
// the books balance. nomad is the address of the API of a Nomad server. An error means that it could not look.
func Check(ctx context.Context, nomad string, out io.Writer) (int, error) {
	m := &machine{host: "/", nomad: nomad, command: command}
	return m.check(ctx, out, patience)
}

// machine is where to look, and how.
type machine struct {
	host    host
	nomad   string
	command func(ctx context.Context, name string, args ...string) ([]byte, error)
}

func (m *machine) check(ctx context.Context, out io.Writer, patience time.Duration) (int, error) {
	over := time.After(patience)
	for {
		left, err := m.compare(ctx)
		if err == nil && len(left) == 0 {
			return 0, nil
		}
		select {
		case <-time.After(pace):
			continue
		case <-ctx.Done():
		case <-over:
		}
		for _, line := range left {
			if _, err := fmt.Fprintln(out, line); err != nil {
				return len(left), err
			}
		}
		return len(left), err
	}
}

// compare looks once and makes all comparisons.
func (m *machine) compare(ctx context.Context) ([]string, error) {
	l, err := m.look(ctx)
	if err != nil {
		return nil, err
	}
	var left []string
	var errs []error
	for _, c := range checks {
		found, err := c.find(l)
		if err != nil {
			errs = append(errs, fmt.Errorf("books: %s: %w", c.name, err))
		}
		slices.Sort(found)
		for _, what := range found {
			left = append(left, fmt.Sprintf("books: %s: %s", c.name, what))
		}
	}
	return left, errors.Join(errs...)
}
