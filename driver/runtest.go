package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

const (
	// runTestTimeout bounds a run test, without the removal of what it has made.
	runTestTimeout = 5 * time.Minute
	// runTestStop is how long the container may take to end.
	runTestStop = 30 * time.Second
	// runTestPace is the time between two looks whether the container's program has got to work.
	runTestPace = 50 * time.Millisecond
	// runTestName is that of the task, and the node that its labels name: no agent takes the container for its own.
	runTestName = "run-test"
	// runTestMemory is the task's, in MB.
	runTestMemory = 64
)

// RunTest runs a tiny container as a task of a host user's podman or, when socket is not empty, on the socket block of
// that name: through all that this driver does for a task, with the agent's configuration. It finds out whether the task
// sees its directories, has its memory limit, is measured, gets its signal, and whether its exit code and its output
// arrive. The container's image is this program. The error says what has failed; it takes at most five minutes to come.
//
// Of the container, its image and its directories nothing is left, also when ctx ends early, nor is what was started for
// a host user. A driver that runs on this node is left alone: the test has a state directory and a log process of its
// own, no reconciler, and does not touch the users' CPU weights.
func RunTest(ctx context.Context, plugin *config.Plugin, user rootless.User, socket, version string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, runTestTimeout, fmt.Errorf("not done within %s: %w", runTestTimeout, context.DeadlineExceeded))
	defer cancel()
	r := &runTest{version: version, socket: cmp.Or(socket, user.Name)}
	subject := "host user " + user.String()
	if socket != "" {
		subject = fmt.Sprintf("socket %q", socket)
	}
	own := ownConfig(*plugin, user, socket)
	err := r.run(ctx, &own)
	if err != nil {
		err = fmt.Errorf("run test of %s: %s: %w", subject, r.step, err)
	}
	if left := r.unwind(ctx); left != nil {
		err = errors.Join(err, fmt.Errorf("run test of %s: something of it is left: %w", subject, left))
	}
	return err
}

// ownConfig is the configuration of the test's driver: the agent's, with only the endpoint that is tested, which is open to
// the test.
func ownConfig(plugin config.Plugin, user rootless.User, socket string) config.Plugin {
	plugin.GC.Container = true
	if socket == "" {
		plugin.SocketPath, plugin.Sockets = "", []config.Socket{{Name: user.Name, HostUser: user.Name}}
		return plugin
	}
	plugin.Sockets = slices.Clone(plugin.Sockets)
	plugin.Sockets = slices.DeleteFunc(plugin.Sockets, func(block config.Socket) bool { return block.Name != socket })
	for i := range plugin.Sockets {
		plugin.Sockets[i].Namespaces, plugin.Sockets[i].DefaultFor = nil, nil
	}
	return plugin
}

// runTest is one run test: what it has made so far, and how to undo it.
type runTest struct {
	version string
	socket  string // the name of the endpoint

	dir            string
	driver         *Driver
	node           *node
	endpoint       *sockets.Endpoint
	client         *sockets.Client
	image          string
	secret         string
	cfg            *drivers.TaskConfig
	stdout, stderr *stream // nil when no logs go to Nomad

	step string // what is being done
	undo []func(context.Context) error
}

func (r *runTest) run(ctx context.Context, own *config.Plugin) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"preparing a driver", func(ctx context.Context) error { return r.configure(ctx, own) }},
		{"starting a log process", r.serveLogs},
		{"activating podman", r.activate},
		{"making an image", r.importImage},
		{"making the task's directories", r.makeDirectories},
		{"starting the container", r.start},
		{"waiting for the container's program", r.awaitReady},
		{"measuring the container", r.measure},
		{"stopping the container", r.stop},
		{"comparing the container's output", r.compareOutput},
	} {
		r.step = step.name
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unwind undoes what was done, the last first, also when ctx is over.
func (r *runTest) unwind(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(r.undo) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		errs = append(errs, undo(ctx))
		cancel()
	}
	return errors.Join(errs...)
}

func (r *runTest) finally(undo func(context.Context) error) { r.undo = append(r.undo, undo) }

func (r *runTest) start(ctx context.Context) error {
	if err := r.cfg.EncodeConcreteDriverConfig(map[string]any{
		"image": r.image, "command": runTestProgram, "args": []string{RunTestSubcommand}, "socket": r.socket,
		"image_pull_timeout": runTestTimeout.String(),
	}); err != nil {
		return err
	}
	if _, _, err := r.driver.startTask(ctx, r.cfg); err != nil {
		return err
	}
	r.finally(func(context.Context) error { return r.driver.DestroyTask(r.cfg.ID, true) })
	return nil
}

// awaitReady waits for the file with which the container's program says that it could do all that it has tried.
func (r *runTest) awaitReady(ctx context.Context) error {
	results, err := r.driver.WaitTask(ctx, r.cfg.ID)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(runTestPace)
	defer ticker.Stop()
	for {
		if _, err := os.Lstat(filepath.Join(r.cfg.TaskDir().SharedAllocDir, readyFile)); err == nil {
			return nil
		}
		select {
		case exit := <-results:
			if exit != nil {
				return r.endedEarly(exit)
			}
			return context.Cause(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// endedEarly says how the container has ended when it should not have.
func (r *runTest) endedEarly(exit *drivers.ExitResult) error {
	err := fmt.Errorf("it has ended with exit code %d", exit.ExitCode)
	if exit.Err != nil {
		err = fmt.Errorf("%w: %w", err, exit.Err)
	}
	if r.stderr != nil {
		if text := r.stderr.end(); text != "" {
			err = fmt.Errorf("%w: %s", err, finding.Printable(text))
		}
	}
	return err
}

// measure looks whether the container has its limit and its use of memory can be told, where the host can do that.
func (r *runTest) measure(ctx context.Context) error {
	user := r.endpoint.User()
	delegation, err := cgroupv2.DelegatedTo(user.Name, user.UID)
	if err != nil {
		return err
	}
	if delegation.Mode != cgroupv2.Unified {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	usages, err := r.driver.TaskStats(ctx, r.cfg.ID, time.Second)
	if err != nil {
		return err
	}
	usage, measured := <-usages
	if !measured {
		return cmp.Or(context.Cause(ctx), errors.New("its cgroup cannot be read"))
	}
	if delegation.Check("memory") != nil {
		return nil // the finding about the delegation tells it
	}
	if usage.ResourceUsage.MemoryStats.Usage == 0 {
		return errors.New("its use of memory is not measured")
	}
	started, found := r.driver.tasks.get(r.cfg.ID)
	if !found {
		return drivers.ErrTaskNotFound
	}
	var now cgroupv2.Stats
	if err := started.cgroup.Read(&now); err != nil {
		return err
	}
	if now.MemoryLimit != runTestMemory<<20 {
		return fmt.Errorf("its memory limit is %s, not %s", units.BytesSize(float64(now.MemoryLimit)), units.BytesSize(runTestMemory<<20))
	}
	return nil
}

func (r *runTest) stop(ctx context.Context) error {
	results, err := r.driver.WaitTask(ctx, r.cfg.ID)
	if err != nil {
		return err
	}
	if err := r.driver.StopTask(r.cfg.ID, runTestStop, "SIGTERM"); err != nil {
		return err
	}
	exit := <-results
	switch {
	case exit == nil:
		return context.Cause(ctx)
	case exit.Err != nil || exit.ExitCode != runTestExit:
		return fmt.Errorf("at SIGTERM it should end with exit code %d: %w", runTestExit, r.endedEarly(exit))
	}
	return nil
}

// compareOutput compares what has come out of the FIFOs with what the program has written. At the task's end all of it had.
func (r *runTest) compareOutput(context.Context) error {
	if r.node.config.DisableLogs {
		return nil
	}
	if ended, found := r.driver.tasks.get(r.cfg.ID); found && ended.logError() != nil {
		return ended.logError()
	}
	want := outputOf(r.secret)
	for name, got := range map[string]string{"stdout": r.stdout.end(), "stderr": r.stderr.end()} {
		if want := want[name]; got != want {
			return fmt.Errorf("its %s came out as %q, not as %q", name, finding.Printable(got), want)
		}
	}
	return nil
}
