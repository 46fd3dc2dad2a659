package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// takeTimeout bounds what has to be asked of podman to take a task up again, which is done in the background.
const takeTimeout = 2 * time.Minute

// RecoverTask takes up a task that an earlier process of this driver has started. It asks podman nothing, whose user
// may not even be up yet, and fails on no doubt, since Nomad would then start the task a second time. What the handle
// does not tell is found out in the background.
func (d *Driver) RecoverTask(handle *drivers.TaskHandle) error {
	if handle == nil || handle.Config == nil {
		return errors.New("recovering a task: Nomad gave no handle")
	}
	if _, known := d.tasks.get(handle.Config.ID); known {
		return nil
	}
	node := d.current()
	if node == nil {
		return errNotConfigured
	}
	recovered, err := node.decodeHandle(handle)
	if err != nil {
		return fmt.Errorf("recovering task %s: %w", handle.Config.ID, err)
	}
	name := spec.ContainerName(recovered.cfg)
	if !d.claims.try(name) {
		return errors.Join(fmt.Errorf("recovering task %s: its container %s is in other hands", recovered.cfg.ID, name), recovered.release())
	}
	if err := d.rewatch(recovered); err != nil {
		d.claims.release(name)
		return errors.Join(fmt.Errorf("recovering task %s: %w", handle.Config.ID, err), recovered.release())
	}
	if handle.Version == handleVersion && recovered.process == nil && !node.begun(recovered) {
		// Nomad hands over also what it has destroyed, and would take a task for running until it has heard that it is not.
		d.claims.release(name)
		return errors.Join(fmt.Errorf("recovering task %s: it was destroyed", recovered.cfg.ID), recovered.release())
	}
	recovered.untold.Store(true)
	replaced := d.closeOffAgain(recovered)
	if !replaced {
		d.resume(node, recovered)
	}
	d.keep(recovered)
	if replaced {
		d.endReplaced(recovered)
	}
	node.learnID(recovered.cfg.NodeID)
	if recovered.state.LogFollowed {
		node.renewLogs.Do(func() { node.background.Go(func() { d.renewLogs(node) }) })
		d.watchDrops()
	}
	return nil
}

// decodeHandle makes a task of the handle: of this driver's, or of that of the driver of HashiCorp.
func (n *node) decodeHandle(handle *drivers.TaskHandle) (*task, error) {
	t := &task{cfg: handle.Config, taken: closed}
	switch handle.Version {
	case handleVersion:
		if err := handle.GetDriverState(&t.state); err != nil {
			return nil, fmt.Errorf("decoding its handle: %w", err)
		}
	case foreignVersion:
		if err := n.adopt(handle, t); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("its handle has version %d, this driver knows %d and %d", handle.Version, foreignVersion, handleVersion)
	}
	// One whose user nobody knows at the moment is looked up again when it is needed.
	if t.endpoint, _ = n.endpointOf(t.state.HostUID, t.state.Socket); t.endpoint != nil {
		t.unhold = t.endpoint.Hold()
	}
	return t, nil
}

// begun tells whether the task was started and not destroyed since.
func (n *node) begun(t *task) bool {
	noted, found, err := n.intents.get(spec.ContainerName(t.cfg))
	return err != nil || found && !noted.abandoned() && noted.TaskID == t.cfg.ID
}

// rewatch watches the processes of the handle again. Only when that of the container cannot be watched it fails.
func (d *Driver) rewatch(t *task) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	if boot != t.state.BootID || t.state.Process.PID == 0 {
		return nil
	}
	if t.process, err = d.exits.Watch(t.state.Process); err != nil {
		return ignoreGone(err)
	}
	if t.state.Conmon.PID != 0 {
		if t.conmon, err = d.exits.Watch(t.state.Conmon); ignoreGone(err) != nil {
			d.logger.Error("a recovered task's monitor cannot be watched", "task", t.cfg.ID, "error", err)
		}
	}
	if err := t.openCgroup(d.lookSoon); err != nil {
		d.logger.Error("what a recovered task uses cannot be measured", "task", t.cfg.ID, "error", err)
	}
	t.outlived()
	return nil
}

// resume finds out in the background what the handle does not tell. What has ended meanwhile is left to WaitTask.
func (d *Driver) resume(n *node, t *task) {
	unknown := t.state.BootID == ""
	if !unknown && (t.process != nil || !n.config.RecoverStopped) {
		return
	}
	taken := make(chan struct{})
	ctx, cancel := context.WithTimeout(n.ctx, takeTimeout)
	t.taken, t.giveUp = taken, cancel
	n.background.Go(func() {
		defer cancel()
		defer d.cores.Wake()
		defer close(taken)
		d.takeLater(ctx, n, t)
	})
}

// takeLater asks podman for the processes of a recovered task, and starts its container again where the agent's
// configuration says so. When that fails the task counts as ended.
func (d *Driver) takeLater(ctx context.Context, n *node, t *task) {
	started, err := d.takeOrStart(ctx, n, t)
	switch {
	case err != nil:
		d.logger.Error("a recovered task cannot be taken up", "task", t.cfg.ID, "error", err)
	case started:
		d.say(t.cfg, "Started the container again, which was found ended (plugin option recover_stopped)")
	}
}

func (d *Driver) takeOrStart(ctx context.Context, n *node, t *task) (started bool, err error) {
	endpoint := t.endpoint
	if endpoint == nil {
		if endpoint, err = n.endpointOf(t.state.HostUID, t.state.Socket); err != nil {
			return false, err
		}
	}
	client, err := endpoint.Activate(ctx)
	if err != nil {
		return false, err
	}
	container, err := client.Inspect(ctx, t.state.ContainerID)
	if err != nil {
		return false, err
	}
	if !container.State.Running {
		if !n.config.RecoverStopped {
			return false, nil
		}
		if t.refused = n.mayStart(t); t.refused != nil {
			return false, t.refused
		}
		if container, err = d.startAgain(ctx, n, t, endpoint); err != nil {
			return false, err
		}
		started = true
	}
	t.state.Run = container.State.StartedAt
	t.state.StopSignal = string(container.Config.StopSignal)
	t.state.Cgroup = container.State.CgroupPath
	if t.state.BootID, err = bootID(); err != nil {
		return started, err
	}
	err = d.take(t, container.State.Pid, container.State.ConmonPid, endpoint)
	if !started {
		t.outlived()
	}
	return started, err
}

// startAgain starts an ended container of this driver's, which needs its directories where they were the first time.
// One that then cannot be taken up is killed, and the task fails with the reason.
func (d *Driver) startAgain(ctx context.Context, n *node, t *task, endpoint *sockets.Endpoint) (_ *sockets.Container, err error) {
	dirs, err := stageDirectories(t.cfg, t.state.Binds, n, endpoint)
	if err != nil {
		return nil, err
	}
	client := endpoint.Client()
	if err := client.Start(ctx, t.state.ContainerID); err != nil {
		return nil, errors.Join(err, dirs.close())
	}
	defer func() {
		if err != nil {
			t.setFate(fmt.Errorf("its container was started again, but could not be taken up, and was killed: %w", err))
			ctx, cancel := context.WithTimeout(n.ctx, removeTimeout)
			defer cancel()
			err = errors.Join(err, client.Kill(ctx, t.state.ContainerID, "SIGKILL"))
		}
	}()
	if err := dirs.close(); err != nil {
		return nil, err
	}
	container, err := client.Inspect(ctx, t.state.ContainerID)
	if err != nil || !t.state.LogFollowed {
		return container, err
	}
	if err := n.ensureLogs(ctx); err != nil {
		return nil, err
	}
	return container, d.followLog(ctx, n, t, container, endpoint)
}

// renewLogs has the log process run this driver's binary, after an update of it, and run at all, after a reboot.
func (d *Driver) renewLogs(n *node) {
	ctx, cancel := context.WithTimeout(n.ctx, takeTimeout)
	defer cancel()
	if err := n.ensureLogs(ctx); err != nil {
		d.logger.Error("the log process cannot be started", "error", err)
	}
}

// endpointOf finds the endpoint of a task that was recovered when its host user was not known.
func (d *Driver) endpointOf(t *task) (*sockets.Endpoint, error) {
	if t.endpoint != nil {
		return t.endpoint, nil
	}
	return d.current().endpointOf(t.state.HostUID, t.state.Socket)
}

// endpointOf finds the endpoint of what was begun earlier: by its host user, so that a socket block may be renamed,
// and by name where a socket block has only a path.
func (n *node) endpointOf(uid uint32, socket string) (*sockets.Endpoint, error) {
	if endpoint, found := n.registry.Endpoint(socket); found && endpoint.User().UID == uid {
		return endpoint, nil
	}
	user, err := rootless.LookupUID(uid)
	if err != nil {
		return nil, err
	}
	return n.registry.ForUser(user), nil
}
