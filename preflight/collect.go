// Package preflight tells whether a host is ready for tasks: it asks the rooms of the house for their findings, prints
// them, and mends what can be mended without harm.
package preflight

import (
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
	patience     = 2 * time.Minute
	lookPatience = 20 * time.Second
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

// look is one look at a host. What it finds has its ID and subject, mostly.
type look struct {
	id, subject string
	find        func(context.Context) []finding.Finding
}

// one is a look that needs no context and makes one finding.
func one(id, subject string, find func() finding.Finding) look {
	return look{id, subject, func(context.Context) []finding.Finding { return []finding.Finding{find()} }}
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
	groups, done := groupsOf(o)
	found := collect(ctx, groups)
	for i, group := range groups {
		if o.Run != nil && group.run != nil && o.Run(group.user) {
			found[i] = append(found[i], runTest(ctx, group, found[i]))
		}
	}
	done()
	return slices.Concat(found...)
}

// collect makes all looks, and returns what each group has found, in order.
func collect(ctx context.Context, groups []group) [][]finding.Finding {
	ctx, cancel := within(ctx, "all looks together", patience)
	defer cancel()
	found := make([][]finding.Finding, len(groups))
	var crew errgroup.Group
	crew.SetLimit(crowd)
	for i, group := range groups {
		crew.Go(func() error {
			for _, look := range group.looks {
				found[i] = append(found[i], look.make(ctx, lookPatience, grace)...)
			}
			return nil
		})
	}
	_ = crew.Wait() // none of them fails
	return found
}

// make looks. A look that hangs, as one at a file system that does not answer, is left behind.
func (l look) make(ctx context.Context, patience, grace time.Duration) []finding.Finding {
	ctx, cancel := within(ctx, "looking", patience)
	defer cancel()
	if ctx.Err() != nil {
		return []finding.Finding{finding.Unknown(l.id, l.subject, context.Cause(ctx))}
	}
	found := make(chan []finding.Finding, 1)
	go func() { found <- l.find(ctx) }()
	select {
	case findings := <-found:
		return findings
	case <-ctx.Done():
	}
	select {
	case findings := <-found:
		return findings
	case <-time.After(grace):
		return []finding.Finding{finding.Unknown(l.id, l.subject, context.Cause(ctx))}
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
