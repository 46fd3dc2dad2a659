package driver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/images"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/exits"
	"nomad-driver-podman/logs"
	"nomad-driver-podman/sockets"
)

// StartTask runs a task. When it fails nothing is left behind.
func (d *Driver) StartTask(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
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
	ctx, cancel := context.WithTimeout(d.ctx, startTimeout+conf.PullTimeout)
	defer cancel()
	s := &start{driver: d, node: node, cfg: cfg, conf: conf}
	started, err := s.run(ctx)
	if err != nil {
		return nil, nil, s.failure(err)
	}
	handle, err := started.handle()
	if err != nil {
		return nil, nil, s.failure(errors.Join(err, s.unwind(ctx)))
	}
	d.tasks.put(cfg.ID, started)
	return handle, started.state.Network, nil
}

// start is one try to start a task: what its steps have found and made so far, and how to undo it.
type start struct {
	driver *Driver
	node   *node
	cfg    *drivers.TaskConfig
	conf   *config.Task

	endpoint *sockets.Endpoint
	client   *sockets.Client
	dirs     *directories
	spec     *spec.Spec
	id       string
	logPath  string
	task     *task

	// step is what is being done, and retry whether it may go better another time.
	step  string
	retry bool
	undo  []func(context.Context) error
}

// run is the life of a task up to the point where it runs. The states it passes are podman's own: prepared (nothing
// exists yet but what the host needs for it), created, running.
func (s *start) run(ctx context.Context) (*task, error) {
	for _, step := range []struct {
		name  string
		do    func(context.Context) error
		retry bool
	}{
		{"finding the endpoint", s.route, false},
		{"activating the endpoint", s.activate, true},
		{"preparing the log process", s.node.ensureLogs, true},
		{"getting the image", s.ensureImage, true},
		{"showing the task's directories", s.stageDirectories, false},
		{"describing the container", s.buildSpec, false},
		{"removing the container of an earlier try", s.removeEarlier, true},
		{"creating the container", s.create, true},
		{"starting the container", s.startContainer, true},
		{"watching the container", s.watch, true},
		{"following the log", s.followLog, true},
	} {
		s.step, s.retry = step.name, step.retry
		if err := step.do(ctx); err != nil {
			return nil, errors.Join(err, s.unwind(ctx))
		}
	}
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
		errs = append(errs, undo(ctx))
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

func (s *start) route(ctx context.Context) (err error) {
	if s.endpoint, err = s.node.route(s.conf); err != nil {
		return err
	}
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

func (s *start) stageDirectories(context.Context) error {
	dirs, err := stageDirectories(s.cfg, s.conf, s.node, s.endpoint)
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

func (s *start) buildSpec(context.Context) error {
	built, err := spec.Build(spec.Input{
		Task:        s.cfg,
		Config:      s.conf,
		Rootless:    s.endpoint.Rootless(),
		Controllers: s.endpoint.State().Info.CgroupControllers,
		Mounts:      s.dirs.mounts,
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

// removeEarlier makes room for the container: one of this very task, of a try that Nomad has given up, is removed.
// Anybody else's is left alone.
func (s *start) removeEarlier(ctx context.Context) error {
	earlier, err := s.client.Inspect(ctx, s.spec.Name)
	if errors.Is(err, sockets.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if earlier.Config.Labels[spec.LabelAllocID] != s.cfg.AllocID || earlier.Config.Labels[spec.LabelTaskName] != s.cfg.Name {
		return fmt.Errorf("the host user has a container called %s that is not this task's; remove or rename it", s.spec.Name)
	}
	return s.client.Remove(ctx, earlier.ID, true)
}

func (s *start) create(ctx context.Context) error {
	// The undo comes first and goes by the name: a create whose answer was lost may still have made the container.
	s.undo = append(s.undo, func(ctx context.Context) error { return s.client.Remove(ctx, s.spec.Name, true) })
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
	return s.client.Start(ctx, s.id)
}

// watch takes hold of the container's processes and cgroup, once it is sure that they are what the endpoint says.
func (s *start) watch(ctx context.Context) error {
	container, err := s.client.Inspect(ctx, s.id)
	if err != nil {
		return err
	}
	s.task = &task{cfg: s.cfg, client: s.client, state: taskState{
		ContainerID: s.id,
		HostUID:     s.endpoint.User().UID,
		Socket:      s.endpoint.Name(),
		Cgroup:      container.State.CgroupPath,
		StopSignal:  string(container.Config.StopSignal),
		StartedAt:   time.Now(),
		Run:         container.State.StartedAt,
		Network:     driverNetwork(container, s.spec, s.endpoint.Rootless()),
	}}
	s.undo = append(s.undo, func(context.Context) error { return s.task.release() })
	s.logPath = container.HostConfig.LogConfig.Path
	if s.task.state.BootID, err = bootID(); err != nil {
		return err
	}
	if !container.State.Running {
		return nil // it has ended already: there is nothing to watch, only a result to collect
	}
	return s.driver.take(s.task, container.State.Pid, container.State.ConmonPid, s.endpoint)
}

// take opens the task's pidfds and cgroup. What an endpoint answers is its host user's word: a process counts only
// when it is in the cgroup that podman named, and that only when it lies under the user's own manager.
func (d *Driver) take(t *task, pid, conmon int, endpoint *sockets.Endpoint) error {
	process, err := exits.Identify(pid)
	if errors.Is(err, exits.ErrGone) {
		return nil // ended meanwhile
	}
	if err != nil {
		return err
	}
	t.state.Process = process
	t.process, err = d.exits.Watch(process)
	if errors.Is(err, exits.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	// podman names no cgroup when the process ended between its looks at the two.
	if t.state.Cgroup == "" && t.endsWithin(d.ctx, time.Second) {
		return nil
	}
	if endpoint.Rootless() && !cgroupv2.InUserManager(t.state.Cgroup, endpoint.User().UID) {
		return fmt.Errorf("the container's cgroup %q is not under user@%d.service: set cgroup_manager = \"systemd\" in the containers.conf of host user %s", t.state.Cgroup, endpoint.User().UID, endpoint.User().Name)
	}
	in, err := cgroupv2.Of(pid)
	if errors.Is(err, cgroupv2.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if in != t.state.Cgroup && !isBelow(in, t.state.Cgroup) {
		if endpoint.Rootless() {
			return fmt.Errorf("the endpoint names process %d as the container's first, but that runs in cgroup %s, not in the container's (%s)", pid, in, t.state.Cgroup)
		}
		t.state.Cgroup = in
	}
	if err := t.openCgroup(); err != nil {
		return err
	}
	return d.takeConmon(t, conmon, endpoint)
}

// takeConmon watches the container's monitor, when the host user runs it.
func (d *Driver) takeConmon(t *task, pid int, endpoint *sockets.Endpoint) error {
	conmon, err := exits.Identify(pid)
	if err != nil {
		return ignoreGone(err)
	}
	in, err := cgroupv2.Of(pid)
	if err != nil {
		return ignoreGone(err)
	}
	if endpoint.Rootless() && !cgroupv2.InUserManager(in, endpoint.User().UID) {
		return fmt.Errorf("the endpoint names process %d as the container's monitor, but that runs in cgroup %s, which is not the host user's", pid, in)
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

func (s *start) followLog(ctx context.Context) error {
	s.undo = append(s.undo, func(ctx context.Context) error { return s.node.logs.Finish(ctx, s.cfg.ID) })
	return s.node.logs.Follow(ctx, logs.FollowRequest{
		Task:   s.cfg.ID,
		File:   filepath.Clean(s.logPath),
		UID:    s.endpoint.User().UID,
		Stdout: s.cfg.StdoutPath,
		Stderr: s.cfg.StderrPath,
	})
}
