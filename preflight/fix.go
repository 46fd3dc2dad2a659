package preflight

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"nomad-driver-podman/finding"
)

// maxRounds is how often it is looked whether what was mended has shown more to mend. An account, its subordinate IDs, its
// manager and its socket come one after the other.
const maxRounds = 5

// step is what mends one finding.
type step struct {
	finding  finding.Finding
	commands []string
}

// key tells steps apart that do not do the same.
func (s step) key() string { return strings.Join(s.commands, "\n") }

// planOf are the steps that may be taken unattended, except those that are done. Of the users in create, that there is no
// account may be mended, too.
func planOf(findings []finding.Finding, create []string, done map[string]bool) []step {
	var plan []step
	for _, f := range findings {
		safe := f.Remedy.Safe || f.ID == "account" && slices.Contains(create, f.Subject)
		if !safe || len(f.Remedy.Commands) == 0 || f.Status != finding.Fail && f.Status != finding.Warn {
			continue
		}
		next := step{f, f.Remedy.Commands}
		listed := slices.ContainsFunc(plan, func(other step) bool { return other.key() == next.key() })
		if !listed && !done[next.key()] {
			plan = append(plan, next)
		}
	}
	return plan
}

// fixer mends what it finds.
type fixer struct {
	collect func(context.Context) []finding.Finding
	// run runs a command line as root's shell does.
	run func(ctx context.Context, command string, out io.Writer) error
	// confirm asks whether that many commands may be run.
	confirm func(ctx context.Context, commands int) bool
	create  []string  // users whose accounts may be made
	out     io.Writer // for what is listed, and what commands say

	ran int
}

// fix looks, lists what it can mend, runs that when it may, and looks again, until nothing new shows. It returns what the
// last look has shown. No command is run that was not listed, and none again that has not helped.
func (f *fixer) fix(ctx context.Context) ([]finding.Finding, error) {
	done := map[string]bool{}
	for range maxRounds {
		findings := f.collect(ctx)
		plan := planOf(findings, f.create, done)
		if err := f.interrupted(ctx); err != nil {
			return findings, err
		}
		if len(plan) == 0 {
			if len(done) == 0 {
				f.say("There is nothing that can be mended unattended.\n\n")
			}
			return findings, nil
		}
		f.list(plan)
		commands := 0
		for _, step := range plan {
			commands += len(step.commands)
		}
		if !f.confirm(ctx, commands) {
			return findings, f.interrupted(ctx)
		}
		for _, step := range plan {
			done[step.key()] = true
			if err := f.take(ctx, step); err != nil {
				return findings, err
			}
		}
	}
	return f.collect(ctx), f.interrupted(ctx)
}

func (f *fixer) list(plan []step) {
	f.say("To be mended:\n\n")
	for _, step := range plan {
		f.say("%s of %s: %s\n", step.finding.ID, oneLine(step.finding.Subject), oneLine(step.finding.Seen))
		for _, command := range step.commands {
			f.say("    %s\n", command)
		}
	}
	f.say("\n")
}

// take runs the commands of a step, up to one that fails. Only an interrupt is an error.
func (f *fixer) take(ctx context.Context, s step) error {
	for _, command := range s.commands {
		if err := f.interrupted(ctx); err != nil {
			return err
		}
		f.say("# %s\n", command)
		f.ran++
		out := &indented{out: f.out}
		err := f.run(context.WithoutCancel(ctx), command, out) // what has begun is not cut off half way
		out.flush()
		if err != nil {
			f.say("    failed: %s\n", oneLine(err.Error()))
			break
		}
	}
	f.say("\n")
	return nil
}

// interrupted is an error when the user has had enough.
func (f *fixer) interrupted(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w after %d %s", errInterrupted, f.ran, plural("command", f.ran))
}

// say tells what is being done. That nobody can read it stops nothing half way.
func (f *fixer) say(format string, args ...any) { _, _ = fmt.Fprintf(f.out, format, args...) }
