package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/allocdir"
	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
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
	// LogFollowed says that the log process passes the container's log on.
	LogFollowed bool
	// LogsDir is the directory that Nomad opens the task's log files in.
	LogsDir allocdir.ID
	// Binds and Asked are of the job's config block, which Nomad keeps out of what it gives back at a recovery.
	Binds []config.Mount
	Asked config.Asked
	// StopSignal is the image's, for jobs that set no kill_signal.
	StopSignal string
	StartedAt  time.Time
	// Run is podman's time of the start. It tells this run of the container from others.
	Run     time.Time
	Network *drivers.DriverNetwork
}

// task is one container that runs or has ended.
type task struct {
	cfg   *drivers.TaskConfig
	state taskState
	// endpoint is nil while nobody knows it: a host user whom the directory service does not know yet.
	endpoint *sockets.Endpoint
	// untold is whether a recovered task may have to be told that it would be refused now.
	untold atomic.Bool

	// unhold lets go of the endpoint; nil while that is not known.
	unhold func()
	// letGoAlloc lets go of the allocation's directories, which are closed to others until then; nil when they could not be.
	letGoAlloc func()
	// unwatch ends the watch for cores that others reserve; nil without one.
	unwatch func()

	// taken is closed when the fields below are set, which may take a while for a recovered task.
	taken <-chan struct{}
	// refused is why the container, which was found ended, was not started again.
	refused error
	// giveUp ends that early; nil when nothing has to be asked for.
	giveUp context.CancelFunc
	// process and conmon are nil when they had ended before anybody could watch them.
	process, conmon *exits.Watched
	// cgroup is nil when it was gone before anybody could read it.
	cgroup *cgroupv2.Reader

	// killed tells that the kernel has killed a process of the task for its memory; nil without a cgroup.
	killed chan struct{}

	// collect makes the exit result known, once.
	collect sync.Mutex
	// inspected is what podman said of the container then; nil when it did not.
	inspected *sockets.Container

	mu      sync.Mutex
	stopped bool // Nomad has asked for the end
	oom     oomKills
	fate    error // why podman cannot know how it ended
	logErr  error // why the end of its log was not delivered
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

// named is the task of a container's name.
func (s *store) named(container string) (*task, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tasks {
		if spec.ContainerName(t.cfg) == container {
			return t, true
		}
	}
	return nil, false
}

func (s *store) put(id string, added *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tasks == nil {
		s.tasks = map[string]*task{}
	}
	s.tasks[id] = added
}

func (s *store) all() []*task {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.tasks))
}

// remove tells whether the task was there.
func (s *store) remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.tasks[id]
	delete(s.tasks, id)
	return found
}

// shares are the CPU shares of all tasks of a host user, in MHz.
func (s *store) shares(uid uint32) (sum int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tasks {
		if t.state.HostUID == uid && t.cfg.Resources != nil && t.cfg.Resources.NomadResources != nil {
			sum += t.cfg.Resources.NomadResources.Cpu.CpuShares
		}
	}
	return sum
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

// awaitTaken waits until it is known what can be known of the task's processes.
func (t *task) awaitTaken(ctx context.Context) error {
	select {
	case <-t.taken:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("task %s is still being recovered: %w", t.cfg.Name, context.Cause(ctx))
	}
}

// intent is what stands for the task, when something of it has to be removed later.
func (t *task) intent() intent {
	return intent{
		Container: spec.ContainerName(t.cfg), TaskID: t.cfg.ID, AllocID: t.cfg.AllocID, TaskName: t.cfg.Name, NodeID: t.cfg.NodeID,
		AllocDir: t.cfg.AllocDir, HostUID: t.state.HostUID, Socket: t.state.Socket, Logged: t.state.LogFollowed,
	}
}

// ended is closed when the container's first process has ended. It waits for nothing, except that a task may not be
// taken yet.
func (t *task) ended() <-chan struct{} {
	select {
	case <-t.taken:
	default:
		return nil
	}
	if t.process == nil {
		return closed
	}
	return t.process.Done()
}

// unmonitored is closed when conmon has ended. That it does before the process means that somebody has killed it: then
// nobody is left who could tell how the process ends.
func (t *task) unmonitored() <-chan struct{} {
	switch {
	case t.conmon != nil:
		return t.conmon.Done()
	case t.state.Conmon.PID != 0:
		return closed
	}
	return nil
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

// setFate notes why podman cannot know how the task ended.
func (t *task) setFate(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fate = why
}

func (t *task) knownFate() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fate
}

func (t *task) setLogError(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.logErr = err
}

func (t *task) logError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.logErr
}

// setStopped notes that Nomad asks for the end of the task, unless that has come already.
func (t *task) setStopped() {
	select {
	case <-t.ended():
		return
	default:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
}

func (t *task) isStopped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopped
}

func (t *task) setResult(exit *drivers.ExitResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exit, t.endedAt = exit, time.Now()
}

// openCgroup opens the cgroup of the watched process, unless it is gone. systemd removes it when the process ends, mostly
// before anybody could look, so what happens there is looked at when it happens.
func (t *task) openCgroup(lookSoon func(*task)) error {
	if t.state.Cgroup == "" {
		return nil // it has none in cgroup v2
	}
	hierarchy, err := cgroupv2.Mounted()
	if err != nil {
		return err
	}
	if t.cgroup, err = hierarchy.Open(t.state.Cgroup); err != nil {
		return ignoreGone(err)
	}
	t.killed = make(chan struct{}, 1)
	look := t.looker(lookSoon)
	look(nil)
	_ = t.cgroup.Look() // the first, with the limits
	return t.process.LookAt(look, t.cgroup.Events()...)
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
	for _, letGo := range []func(){t.unwatch, t.letGoAlloc, t.unhold} {
		if letGo != nil {
			letGo()
		}
	}
	return errors.Join(errs...)
}
