// Package preflight tells whether a host is ready for tasks: it asks the rooms of the house for their findings, prints
// them, and mends what can be mended without harm.
package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

const (
	// patience is how long all looks together may take, lookPatience how long each may.
	patience     = 5 * time.Minute
	lookPatience = 20 * time.Second
	// apiPatience is how long podman may take to answer: the first time it makes its user's storage.
	apiPatience = 90 * time.Second
	// grace is for a look that ends with its deadline, and has more to say than that.
	grace = 2 * time.Second
	// crowd is how many users are looked at together.
	crowd = 8
)

// Options say what is looked at.
type Options struct {
	Agent    *config.Agent
	AgentErr error    // why not all of the agent's configuration could be read; may be nil
	Users    []string // host users to look at besides those that the configuration names
	Version  string   // of this program
	// RunTest is driver.RunTest, which has a deadline of its own.
	RunTest func(ctx context.Context, plugin *config.Plugin, user rootless.User, socket, version string) error
	// Run tells whose podman has to pass the run test. Nil: nobody's.
	Run func(rootless.User) bool
}

// look is one look at a host.
type look struct {
	subject string
	find    func(context.Context) []finding.Finding
	ids     []string // what it may find; each is told of when the look takes too long
	// patience is how long it may take. Zero: lookPatience.
	patience time.Duration
	// inTurn says that it is made before those that are not, with the others that are in the order of the output.
	inTurn bool
}

// one is a look that needs no context and makes one finding.
func one(id, subject string, find func() finding.Finding) look {
	return several(subject, func(context.Context) []finding.Finding { return []finding.Finding{find()} }, id)
}

func several(subject string, find func(context.Context) []finding.Finding, ids ...string) look {
	return look{subject: subject, find: find, ids: ids}
}

// group is looks that are made one after the other.
type group struct {
	looks []look
	// user and run are whose podman can be tested, and how. run may be nil.
	user rootless.User
	run  func(context.Context) error
}

// Collect looks at the host, then at the endpoints and users of the configuration, then at Options.Users. It changes
// nothing, except that a run test starts what a task would.
func Collect(ctx context.Context, o Options) []finding.Finding {
	configuration := findConfiguration(o.Agent, o.AgentErr)
	s, err := await(ctx, "looking whose the sockets are", lookPatience, grace, func(context.Context) *subjects { return newSubjects(o) })
	if err != nil {
		return append(configuration, finding.Finding{ID: idConfiguration, Subject: finding.Host, Status: finding.Fail,
			Seen: "the users and sockets that it names cannot be looked at: " + err.Error(), Cause: err,
			Why: "the plugin looks at them when it starts", Remedy: finding.Remedy{Advice: "see whether the file systems of the sockets answer"}})
	}
	defer func() { _ = s.registry.Close() }() // it never fails
	found := collect(ctx, s.groups)
	for i, group := range s.groups {
		if o.Run != nil && group.run != nil && o.Run(group.user) && ctx.Err() == nil {
			found[i] = append(found[i], runTest(ctx, group, found[i]))
		}
	}
	return slices.Concat(append([][]finding.Finding{configuration, s.trouble}, found...)...)
}

// collect makes all looks, and returns what each group has found, in order.
func collect(ctx context.Context, groups []group) [][]finding.Finding {
	ctx, cancel := within(ctx, "all looks together", patience)
	defer cancel()
	found := make([][][]finding.Finding, len(groups)) // by group and look
	for i, group := range groups {
		found[i] = make([][]finding.Finding, len(group.looks))
		for j, look := range group.looks {
			if look.inTurn {
				found[i][j] = look.make(ctx, grace)
			}
		}
	}
	var crew errgroup.Group
	crew.SetLimit(crowd)
	for i, group := range groups {
		crew.Go(func() error {
			for j, look := range group.looks {
				if !look.inTurn {
					found[i][j] = look.make(ctx, grace)
				}
			}
			return nil
		})
	}
	_ = crew.Wait() // none of them fails
	together := make([][]finding.Finding, len(groups))
	for i := range found {
		together[i] = slices.Concat(found[i]...)
	}
	return together
}

// make looks.
func (l look) make(ctx context.Context, grace time.Duration) []finding.Finding {
	found, err := await(ctx, "looking", cmp.Or(l.patience, lookPatience), grace, l.find)
	if err == nil {
		return found
	}
	for _, id := range l.ids {
		found = append(found, finding.Unknown(id, l.subject, err))
	}
	return found
}

// await returns what do does, unless that takes too long. A look that hangs, as one at a file system that does not answer,
// is left behind. What is being done stands in the error.
func await[T any](ctx context.Context, what string, patience, grace time.Duration, do func(context.Context) T) (value T, err error) {
	ctx, cancel := within(ctx, what, patience)
	defer cancel()
	if ctx.Err() != nil {
		return value, context.Cause(ctx)
	}
	done := make(chan T, 1)
	go func() { done <- do(ctx) }()
	select {
	case value = <-done:
		return value, nil
	case <-ctx.Done():
	}
	select {
	case value = <-done:
		return value, nil
	case <-time.After(grace):
		return value, context.Cause(ctx)
	}
}

func within(ctx context.Context, what string, patience time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s took longer than %s: %w", what, patience, context.DeadlineExceeded))
}

// runTest has a user run a container, unless other findings tell already that it would fail.
func runTest(ctx context.Context, g group, others []finding.Finding) finding.Finding {
	const id = "run-test"
	if fails(others) > 0 {
		return finding.Skip(id, g.user.String(), "other findings fail")
	}
	start := time.Now()
	if err := g.run(ctx); err != nil {
		return finding.Finding{ID: id, Subject: g.user.String(), Status: finding.Fail, Seen: oneLine(err.Error()), Cause: err,
			Why: "a task like this fails"}
	}
	return finding.Good(id, g.user.String(), "a container ran, in %s", time.Since(start).Round(100*time.Millisecond))
}

// fails is how many of the findings make tasks fail.
func fails(findings []finding.Finding) int { return count(findings, finding.Fail) }

func count(findings []finding.Finding, status finding.Status) int {
	n := 0
	for _, f := range findings {
		if f.Status == status {
			n++
		}
	}
	return n
}
