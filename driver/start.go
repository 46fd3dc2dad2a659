package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/allocdir"
	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/images"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/exits"
	"nomad-driver-podman/sockets"
)

// StartTask runs a task. When it fails nothing is left behind.
func (d *Driver) StartTask(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	return d.startTask(d.ctx, cfg)
}

func (d *Driver) startTask(ctx context.Context, cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	if _, exists := d.tasks.get(cfg.ID); exists {
		return nil, nil, fmt.Errorf("task %s is started already", cfg.ID)
	}
	node := d.current()
	if node == nil {
		return nil, nil, errNotConfigured
	}
	conf, err := config.DecodeTask(cfg)
	if err != nil {
		return nil, nil, err
	}
	for _, warning := range conf.Warnings {
		d.say(cfg, "%s", warning)
	}
	if err := allocdir.CheckTask(cfg.Name); err != nil {
		return nil, nil, fmt.Errorf("task %q: %w", cfg.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout+conf.PullTimeout)
	defer cancel()
	s := &start{driver: d, node: node, cfg: cfg, conf: conf, name: spec.ContainerName(cfg)}
	node.learnID(cfg.NodeID)
	started, err := s.run(ctx)
	if err != nil {
		err = s.failure(err)
		s.explainFailure(err)
		return nil, nil, err
	}
	handle, err := started.handle()
	if err != nil {
		return nil, nil, s.failure(errors.Join(err, s.unwind(ctx)))
	}
	d.keep(started)
	return handle, started.state.Network, nil
}

// start is one try to start a task: what its steps have found and made so far, and how to undo it.
type start struct {
	driver *Driver
	node   *node
	cfg    *drivers.TaskConfig
	conf   *config.Task
	name   string // the container's

	endpoint *sockets.Endpoint
	client   *sockets.Client
	dirs     *directories
	// logsDir is where Nomad has the task's log files, and letGoAlloc lets go of the allocation's directories.
	logsDir    allocdir.ID
	letGoAlloc func()
	// delegation and sharedCPUs are what the host's cgroups can do for the task.
	delegation cgroupv2.Delegation
	sharedCPUs string

	spec *spec.Spec
	id   string
	task *task
	// unhold lets go of the endpoint, whose podman is kept as long as the task is there.
	unhold func()
	// container is the container as podman sees it after the start.
	container *sockets.Container

	// step is what is being done, and retry whether it may go better another time.
	step  string
	retry bool
	undo  []func(context.Context) error
	// left is whether something could not be undone.
	left bool
	// again is whether Nomad repeats a try during which the driver has died, and adopted whether its container is used.
	again, adopted bool
}

// stepImage is the step that a failure to get the image is told by.
const stepImage = "getting the image"

// run is the life of a task up to the point where it runs. The states it passes are podman's own: prepared (nothing
// exists yet but what the host needs for it), created, running.
func (s *start) run(ctx context.Context) (*task, error) {
	for _, step := range []struct {
		name  string
		do    func(context.Context) error
		retry bool
	}{
		{"claiming the container's name", s.claim, true},
		{"finding the endpoint", s.route, false},
		{"activating the endpoint", s.activate, true},
		{"preparing the log process", s.ensureLogs, true},
		{stepImage, s.ensureImage, true},
		{"noting what is begun", s.noteIntent, true},
		{"showing the task's directories", s.stageDirectories, false},
		{"looking at the host's cgroups", s.lookAtCgroups, true},
		{"describing the container", s.buildSpec, false},
		{"looking for the container of an earlier try", s.findEarlier, true},
		{"creating the container", s.create, true},
		{"starting the container", s.startContainer, true},
		{"watching the container", s.watch, true},
		{"following the log", s.followLog, true},
	} {
		s.step, s.retry = step.name, step.retry
		crashBefore(step.name)
		if err := step.do(ctx); err != nil {
			return nil, errors.Join(err, s.unwind(ctx))
		}
	}
	crashBefore("returning")
	// The container has mounts of its own now.
	if err := s.dirs.close(); err != nil {
		return nil, errors.Join(err, s.unwind(ctx))
	}
	return s.task, nil
}

// unwind undoes the steps that were done, the last first, also when ctx is over.
func (s *start) unwind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		err := undo(ctx)
		s.left = s.left || err != nil
		errs = append(errs, err)
	}
	s.undo = nil
	return errors.Join(errs...)
}

// failure says which step failed for which host user, and whether Nomad may try again.
func (s *start) failure(err error) error {
	where := ""
	if s.endpoint != nil {
		where = fmt.Sprintf(" on podman socket %q of host user %s", s.endpoint.Name(), s.endpoint.User().Name)
	}
	recoverable := s.retry && !errors.Is(err, images.ErrUnavailable)
	return structs.NewRecoverableError(fmt.Errorf("task %s%s: %s: %w", s.cfg.Name, where, s.step, err), recoverable)
}

// claim waits while what is left of an earlier try is removed. A run of the task that has ended, and that Nomad has not
// destroyed, is destroyed now.
func (s *start) claim(ctx context.Context) error {
	if earlier, found := s.driver.tasks.named(s.name); found {
		// Refused while it runs.
		if err := s.driver.DestroyTask(earlier.cfg.ID, false); err != nil {
			return err
		}
	}
	if err := s.driver.claims.wait(ctx, s.name); err != nil {
		return err
	}
	s.undo = append(s.undo, func(context.Context) error {
		s.driver.claims.release(s.name)
		return nil
	})
	return nil
}

// noteIntent writes down what is about to be made, once what a crash has left of an earlier try is removed.
func (s *start) noteIntent(ctx context.Context) error {
	earlier, found, err := s.node.intents.get(s.name)
	if err != nil {
		// The name is this task's alone, and its container is looked for later on.
		s.driver.logger.Warn("a note of an earlier try cannot be read, and is replaced", "task", s.cfg.ID, "error", err)
	}
	s.again = found && earlier.TaskID == s.cfg.ID
	if found && !s.again {
		if err := s.driver.clear(ctx, s.node, earlier); err != nil {
			return err
		}
	}
	begun := intentOf(s.cfg, s.endpoint, s.node.collectsLog(s.cfg))
	s.undo = append(s.undo, func(context.Context) error {
		if s.left {
			defer s.node.wakeReconciler()
			return s.node.intents.abandon(begun)
		}
		err := s.node.intents.remove(s.name)
		s.driver.uncoverUnused(s.node, s.cfg.AllocDir)
		return err
	})
	return s.node.intents.put(begun)
}

func (s *start) route(ctx context.Context) (err error) {
	if s.endpoint, err = s.node.route(s.conf, s.cfg.Namespace); err != nil {
		return err
	}
	s.unhold = s.endpoint.Hold()
	s.undo = append(s.undo, func(context.Context) error {
		s.unhold()
		return nil
	})
	return s.endpoint.CheckActivatable(ctx)
}

func (s *start) activate(ctx context.Context) (err error) {
	if !s.endpoint.State().Active {
		s.driver.say(s.cfg, "Activating the podman socket of host user %s", s.endpoint.User().Name)
	}
	s.client, err = s.endpoint.Activate(ctx)
	return err
}

func (s *start) ensureImage(ctx context.Context) error {
	say := func(format string, args ...any) { s.driver.say(s.cfg, format, args...) }
	return s.driver.images.Ensure(ctx, s.client, s.endpoint.Path(), s.conf, say)
}

func (s *start) stageDirectories(context.Context) (err error) {
	if s.logsDir, s.letGoAlloc, err = s.driver.closeOff(s.cfg, allocdir.ID{}); err != nil {
		return err
	}
	s.undo = append(s.undo, func(context.Context) error {
		s.letGoAlloc()
		return nil
	})
	s.driver.uncover(s.node, s.cfg.AllocDir) // Nomad builds the directories before it starts tasks
	boot, err := bootID()
	if err != nil {
		return err
	}
	if err := s.node.allocs.put(allocNote{Path: s.cfg.AllocDir, Logs: s.logsDir, BootID: boot}); err != nil {
		return err
	}
	dirs, err := stageDirectories(s.cfg, s.conf.Binds, s.node, s.endpoint)
	if err != nil {
		return err
	}
	s.dirs = dirs
	s.undo = append(s.undo, func(context.Context) error { return dirs.close() })
	for _, warning := range dirs.warnings {
		s.driver.say(s.cfg, "%s", warning)
	}
	return nil
}

// lookAtCgroups reads what the host can do for this task at this moment: it changes under a running manager, and podman says
// what it was at the activation.
func (s *start) lookAtCgroups(context.Context) (err error) {
	user := s.endpoint.User()
	if s.delegation, err = cgroupv2.DelegatedTo(user.Name, user.UID); err != nil {
		return err
	}
	if unmeasured := s.delegation.Mode.Unmeasured(); unmeasured != "" {
		s.driver.say(s.cfg, "%s", unmeasured)
	}
	if s.sharedCPUs, err = sharedCPUs(s.cfg); err != nil {
		return fmt.Errorf("finding the cores that nobody has reserved: %w", err)
	}
	return nil
}

func (s *start) buildSpec(context.Context) error {
	built, err := spec.Build(spec.Input{
		Task:        s.cfg,
		Config:      s.conf,
		Logging:     s.node.logging(s.conf),
		Uncollected: s.node.config.DisableLogs,
		Rootless:    s.endpoint.Rootless(),
		Delegation:  s.delegation,
		// Only what is delegated can be required: what root's kernel lacks is a warning.
		RequireDelegation: s.endpoint.Rootless() && s.node.config.Rootless.Delegation == config.RequireDelegation,
		SharedCPUs:        s.sharedCPUs,
		Mounts:            s.dirs.mounts,
	})
	if err != nil {
		return err
	}
	s.spec = built
	for _, warning := range built.Warnings {
		s.driver.say(s.cfg, "%s", warning)
	}
	return nil
}

// findEarlier makes room for the container, or finds it. One that was started in this very try is taken up: Nomad has
// that log open, and reads it to its end only once. What another try has left is removed, anybody else's left alone.
func (s *start) findEarlier(ctx context.Context) error {
	earlier, err := findOwned(ctx, s.client, s.name, s.cfg.AllocID, s.cfg.Name)
	if err != nil || earlier == nil {
		return err
	}
	if s.adopted = s.again && !earlier.State.StartedAt.IsZero(); !s.adopted {
		return s.client.Remove(ctx, earlier.ID, true)
	}
	s.id = earlier.ID
	s.undo = append(s.undo, s.removeContainer)
	return s.spec.Verify(earlier)
}

func (s *start) removeContainer(ctx context.Context) error { return s.client.Remove(ctx, s.name, true) }

func (s *start) create(ctx context.Context) error {
	if s.adopted {
		return nil
	}
	// The undo comes first and goes by the name: a create whose answer was lost may still have made the container.
	s.undo = append(s.undo, s.removeContainer)
	id, warnings, err := s.client.Create(ctx, s.spec.SpecGenerator)
	if err != nil {
		return err
	}
	s.id = id
	for _, warning := range warnings {
		s.driver.say(s.cfg, "podman: %s", warning)
	}
	container, err := s.client.Inspect(ctx, id)
	if err != nil {
		return err
	}
	return s.spec.Verify(container)
}

func (s *start) startContainer(ctx context.Context) error {
	if s.adopted {
		return nil
	}
	return s.client.Start(ctx, s.id)
}

// watch takes hold of the container's processes and cgroup, once it is sure that they are what the endpoint says.
func (s *start) watch(ctx context.Context) error {
	container, err := s.client.Inspect(ctx, s.id)
	if err != nil {
		return err
	}
	s.task = &task{cfg: s.cfg, endpoint: s.endpoint, taken: closed, unhold: s.unhold, letGoAlloc: s.letGoAlloc, state: taskState{
		ContainerID: s.id,
		HostUID:     s.endpoint.User().UID,
		Socket:      s.endpoint.Name(),
		Cgroup:      container.State.CgroupPath,
		StopSignal:  string(container.Config.StopSignal),
		StartedAt:   time.Now(),
		Run:         container.State.StartedAt,
		LogsDir:     s.logsDir,
		Binds:       s.conf.Binds,
		Asked:       s.conf.Asked(),
		Network:     driverNetwork(container, s.spec, s.endpoint.Rootless()),
	}}
	s.undo = append(s.undo, func(context.Context) error { return s.task.release() })
	s.container = container
	if s.task.state.BootID, err = bootID(); err != nil {
		return err
	}
	if !container.State.Running {
		return nil // it has ended already: there is nothing to watch, only a result to collect
	}
	err = s.driver.take(s.task, container.State.Pid, container.State.ConmonPid, s.endpoint)
	if s.adopted {
		s.task.outlived()
	}
	return err
}

// take opens the task's pidfds and cgroup. What an endpoint answers is its host user's word: the task gets no process
// that is not sure to be its own, since it is signalled later on.
func (d *Driver) take(t *task, pid, conmon int, endpoint *sockets.Endpoint) error {
	process, err := exits.Identify(pid)
	if err != nil {
		return ignoreGone(err)
	}
	watched, err := d.exits.Watch(process)
	if err != nil {
		return ignoreGone(err)
	}
	cgroup, err := checkCgroup(t.state.Cgroup, pid, watched, endpoint)
	if err != nil {
		return errors.Join(ignoreGone(err), watched.Close())
	}
	t.state.Process, t.process, t.state.Cgroup = process, watched, cgroup
	if err := t.openCgroup(d.lookSoon); err != nil {
		return err
	}
	return d.takeConmon(t, conmon, endpoint)
}

// checkCgroup returns the container's cgroup. A process counts only when it is in the cgroup that podman named, and that
// only when it lies under the host user's own manager. It is empty when the container has none in cgroup v2, as root's
// may have on a host that mounts cgroup v1.
func checkCgroup(named string, pid int, process *exits.Watched, endpoint *sockets.Endpoint) (string, error) {
	user := endpoint.User()
	if named == "" {
		// podman names none when the process ended between its looks at the two.
		select {
		case <-process.Done():
			return "", exits.ErrGone
		case <-time.After(time.Second):
		}
	}
	if endpoint.Rootless() && !cgroupv2.InUserManager(named, user.UID) {
		return "", fmt.Errorf("the container's cgroup %q is not under user@%d.service: set cgroup_manager = \"systemd\" in the containers.conf of host user %s", named, user.UID, user.Name)
	}
	in, err := cgroupv2.Of(pid)
	switch {
	case errors.Is(err, cgroupv2.ErrNoHierarchy) && !endpoint.Rootless():
		return "", nil
	case err != nil:
		return "", err
	case in == named || isBelow(in, named):
		return named, nil
	case endpoint.Rootless():
		return "", fmt.Errorf("the endpoint names process %d as the container's first, but that runs in cgroup %q, not in the container's (%q)", pid, in, named)
	}
	if mode, err := cgroupv2.DetectMode(); err != nil || mode != cgroupv2.Unified {
		return "", err
	}
	return in, nil
}

// takeConmon watches the container's monitor, when the host user runs it.
func (d *Driver) takeConmon(t *task, pid int, endpoint *sockets.Endpoint) error {
	conmon, err := exits.Identify(pid)
	if err != nil {
		return ignoreGone(err)
	}
	if endpoint.Rootless() {
		in, err := cgroupv2.Of(pid)
		if err != nil {
			return ignoreGone(err)
		}
		if !cgroupv2.InUserManager(in, endpoint.User().UID) {
			return fmt.Errorf("the endpoint names process %d as the container's monitor, but that runs in cgroup %q, which is not the host user's", pid, in)
		}
	}
	t.state.Conmon = conmon
	t.conmon, err = d.exits.Watch(conmon)
	return ignoreGone(err)
}

// ignoreGone drops the errors that say that the container has ended meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, exits.ErrGone) || errors.Is(err, cgroupv2.ErrGone) {
		return nil
	}
	return err
}
