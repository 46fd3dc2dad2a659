// Run runs the end-to-end tests: the machines of e2e/machines.hcl, each a lab of its own that starts from the lab's saved
// state and whose books must balance afterwards. `make test-e2e` builds what this needs and calls it.
//
// Environment:
//
//	RUN      a regular expression of test names, as for go test -run; with a slash: of subtests, whatever their tier
//	TIER     test (default) or full: which of the tests
//	COUNT    how often each machine is started and its tests are run; 1
//	KEEP     1: the machine of tests that fail is kept for `build/lab ssh`
//	JOBS     how many labs run side by side; as many as there are processors, but for these tests no more than two
//	TIMEOUT  of one machine's tests; 40m
//	TAGS     the build tags
//	SUITE, NOMAD  are the lab's
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	passed, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

// settings is what the environment asks for.
type settings struct {
	root    string // the repository
	pattern string
	tier    string
	count   int
	keep    bool
	jobs    int
	timeout time.Duration
	tags    string
}

// maxJobs is how many labs run side by side at most: each takes one to two processors and up to 6 GiB of memory.
const maxJobs = 2

func newSettings() (*settings, error) {
	set := &settings{
		pattern: variable("RUN", "."), tier: variable("TIER", tierTest), tags: os.Getenv("TAGS"),
		keep: os.Getenv("KEEP") == "1", count: 1, jobs: min(maxJobs, runtime.NumCPU()), timeout: 40 * time.Minute,
	}
	var err error
	for name, number := range map[string]*int{"COUNT": &set.count, "JOBS": &set.jobs} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		if *number, err = strconv.Atoi(text); err != nil || *number < 1 {
			return nil, fmt.Errorf("%s=%s: not a number from 1 on", name, text)
		}
	}
	if text := os.Getenv("TIMEOUT"); text != "" {
		if set.timeout, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("TIMEOUT: %w", err)
		}
	}
	// The lab looks for it from another directory.
	if nomad := os.Getenv("NOMAD"); nomad != "" {
		if nomad, err = filepath.Abs(nomad); err == nil {
			err = os.Setenv("NOMAD", nomad)
		}
	}
	if err == nil {
		set.root, err = os.Getwd()
	}
	return set, err
}

// variable is a variable of the environment, or the default when it is empty.
func variable(name, usual string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return usual
}

// run runs what is selected and tells whether all tests have passed.
func run(ctx context.Context) (bool, error) {
	set, err := newSettings()
	if err != nil {
		return false, err
	}
	tests, err := findTests(filepath.Join(set.root, "e2e"), filepath.Join(set.root, "e2e/conformance"))
	if err != nil {
		return false, err
	}
	planned, err := readPlan(filepath.Join(set.root, "e2e/machines.hcl"), tests)
	if err != nil {
		return false, err
	}
	selected, err := planned.selectTests(tests, set.tier, set.pattern)
	if err != nil {
		return false, err
	}
	binaries, err := build(ctx, set, selected)
	if err != nil {
		return false, err
	}
	if err := buildLabs(ctx, set, selected); err != nil {
		return false, err
	}
	s := newSession(set, binaries)
	defer s.close()
	return s.run(ctx, selected)
}

// binaries are the compiled tests, by the directory of their package, and the drivers, by their build tag.
type binaries struct{ tests, plugins map[string]string }

func build(ctx context.Context, set *settings, selected []*selection) (*binaries, error) {
	b := &binaries{tests: map[string]string{}, plugins: map[string]string{"": filepath.Join(set.root, "build/nomad-driver-podman")}}
	for _, s := range selected {
		if b.tests[s.dir] == "" {
			file := filepath.Join(set.root, "build", filepath.Base(s.dir)+".test")
			fmt.Printf("compiling the tests of %s\n", filepath.Base(s.dir))
			if err := command(ctx, s.dir, "go", "test", "-c", "-tags", set.tags, "-o", file, ".").Run(); err != nil {
				return nil, err
			}
			b.tests[s.dir] = file
		}
		if b.plugins[s.Plugin] == "" {
			file := filepath.Join(set.root, "build/nomad-driver-podman-"+s.Plugin)
			fmt.Printf("compiling the driver with the tag %s\n", s.Plugin)
			if err := command(ctx, set.root, "go", "build", "-tags", set.tags+" "+s.Plugin, "-o", file, ".").Run(); err != nil {
				return nil, err
			}
			b.plugins[s.Plugin] = file
		}
	}
	return b, nil
}

// buildLabs makes the machines that the tests' labs start from, where they are not there yet: here they show their
// progress.
func buildLabs(ctx context.Context, set *settings, selected []*selection) error {
	built := map[int]bool{}
	for _, s := range selected {
		if built[s.Processors] {
			continue
		}
		built[s.Processors] = true
		lab := command(ctx, set.root, "build/lab", "build")
		lab.Env = append(lab.Env, processors(s.Processors))
		if err := lab.Run(); err != nil {
			return fmt.Errorf("the lab's machine: %w", err)
		}
	}
	return nil
}

// processors is the variable that tells the lab how many its machine has.
func processors(n int) string { return fmt.Sprintf("LAB_PROCESSORS=%d", n) }

// command prepares a program that shares this one's streams. It is told to end when the context does.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return terminate(cmd) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is passed on once, by Cancel
	return cmd
}

// terminate asks a command to end. The lab's program then ends its machine.
func terminate(cmd *exec.Cmd) error {
	err := cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
