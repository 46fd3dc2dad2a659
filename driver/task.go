package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/exits"
	"nomad-driver-podman/sockets"
)

// handleVersion is the version of Nomad's handle of a task; upstream's plugin writes 1.
const handleVersion = 2

// taskState is what Nomad keeps of a task, enough to take it up again without asking podman.
type taskState struct {
	ContainerID string
	// HostUID and Socket are the endpoint: the one of that name when it is still the user's, else the user's own.
	HostUID uint32
	Socket  string
	// Process and Conmon are the container's first process and its monitor, by PID and start time in the boot BootID.
	Process exits.Process
	Conmon  exits.Process
	BootID  string
	Cgroup  string
	// StopSignal is the image's, for jobs that set no kill_signal.
	StopSignal string
	StartedAt  time.Time
	// Run is podman's time of the start. It tells this run of the container from others.
	Run     time.Time
	Network *drivers.DriverNetwork
}

// task is one container that runs or has ended.
type task struct {
	cfg    *drivers.TaskConfig
	state  taskState
	client *sockets.Client
	// process and conmon are nil when they had ended before anybody could watch them.
	process, conmon *exits.Watched
	// cgroup is nil when it was gone before anybody could read it.
	cgroup *cgroupv2.Reader

	// collect makes the exit result known, once.
	collect sync.Mutex
	mu      sync.Mutex
	exit    *drivers.ExitResult
	endedAt time.Time
}

// store holds the tasks by Nomad's ID.
type store struct {
	mu    sync.RWMutex
	tasks map[string]*task
}

func (s *store) get(id string) (*task, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found, ok := s.tasks[id]
	return found, ok
}

func (s *store) put(id string, added *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks == nil {
		s.tasks = map[string]*task{}
	}
	s.tasks[id] = added
}

func (s *store) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, id)
}

// handle is what Nomad keeps.
func (t *task) handle() (*drivers.TaskHandle, error) {
	handle := drivers.NewTaskHandle(handleVersion)
	handle.Config = t.cfg
	handle.State = drivers.TaskStateRunning
	if err := handle.SetDriverState(&t.state); err != nil {
		return nil, fmt.Errorf("encoding the task's handle: %w", err)
	}
	return handle, nil
}

// ended is closed when the container's first process has ended.
func (t *task) ended() <-chan struct{} {
	if t.process == nil {
		return closed
	}
	return t.process.Done()
}

// closed is the channel of what is over already.
var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// result is the exit result, nil while it is not known.
func (t *task) result() (*drivers.ExitResult, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exit, t.endedAt
}

func (t *task) setResult(exit *drivers.ExitResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exit, t.endedAt = exit, time.Now()
}

// openCgroup opens the cgroup of the watched process, unless it is gone. systemd removes it when the process ends, mostly
// before anybody could look, so OOM kills are counted when they happen.
func (t *task) openCgroup() error {
	hierarchy, err := cgroupv2.Mounted()
	if err != nil {
		return err
	}
	if t.cgroup, err = hierarchy.Open(t.state.Cgroup); err != nil {
		return ignoreGone(err)
	}
	if t.cgroup.Events() == nil {
		return nil
	}
	return t.process.LookAt(t.cgroup.Events(), func() { _, _ = t.cgroup.OOMKills() })
}

// release gives back the descriptors that watch the task.
func (t *task) release() error {
	var errs []error
	for _, watched := range []*exits.Watched{t.process, t.conmon} {
		if watched != nil {
			errs = append(errs, watched.Close())
		}
	}
	if t.cgroup != nil {
		errs = append(errs, t.cgroup.Close())
	}
	return errors.Join(errs...)
}

// settle finds the exit result of a task whose process has ended, delivers the rest of its logs, and keeps the result.
// The first caller does it, others wait for it.
func (d *Driver) settle(t *task) *drivers.ExitResult {
	t.collect.Lock()
	defer t.collect.Unlock()
	if exit, _ := t.result(); exit != nil {
		return exit
	}
	var kills uint64
	if t.cgroup != nil {
		kills, _ = t.cgroup.OOMKills() // where the cgroup is gone: as it was last seen
	}
	ctx, cancel := context.WithTimeout(d.ctx, collectTimeout)
	defer cancel()
	exit := d.exitResult(ctx, t)
	exit.OOMKilled = exit.OOMKilled || (kills > 0 && exit.ExitCode == 128+int(unix.SIGKILL))
	if exit.OOMKilled && exit.Err == nil {
		// Nomad shows people the error, and the flag only to programs.
		exit.Err = errors.New("OOM Killed: the task has used up its memory")
	}
	if err := d.current().logs.Finish(ctx, t.cfg.ID); err != nil {
		d.logger.Warn("the end of a task's log was not delivered", "task", t.cfg.ID, "error", err)
		d.say(t.cfg, "The end of the log was not delivered: %s", err)
	}
	t.setResult(exit)
	return exit
}

// exitResult asks podman how the container ended.
func (d *Driver) exitResult(ctx context.Context, t *task) *drivers.ExitResult {
	unknown := func(err error) *drivers.ExitResult {
		return &drivers.ExitResult{ExitCode: -1, Err: fmt.Errorf("task %s: its container has ended, but podman does not know how: %w", t.cfg.Name, err)}
	}
	// Wait returns when conmon has written everything down, the last of the log included.
	// Its code is not taken: it is 0, too, when podman has forgotten the code, as it does after some minutes.
	if _, err := t.client.Wait(ctx, t.state.ContainerID); err != nil {
		return unknown(err)
	}
	container, err := t.client.Inspect(ctx, t.state.ContainerID)
	if err != nil {
		return unknown(err)
	}
	// podman answers 0 about a run whose end it never saw, for instance because the user's manager was stopped. The
	// times of the start and the end say nothing together: that of the start is taken when a short run has ended already.
	switch {
	case !container.State.StartedAt.Equal(t.state.Run):
		return unknown(errors.New("somebody has started it again since"))
	case container.State.FinishedAt.IsZero():
		return unknown(errors.New("it has recorded no end of this run"))
	}
	exit := &drivers.ExitResult{ExitCode: int(container.State.ExitCode), OOMKilled: container.State.OOMKilled}
	// A process that a signal has ended is reported as 128 and the signal's number, as a shell does (conmon(8)).
	if signal := exit.ExitCode - 128; signal > 0 && unix.SignalName(unix.Signal(signal)) != "" {
		exit.Signal = signal
	}
	return exit
}
