package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/containers/podman/v4/pkg/signal"
	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/rootless"
)

// defaultStopSignal is what ends a container when neither the job nor the image names a signal.
const defaultStopSignal = "SIGTERM"

// WaitTask reports a task's exit, once it is known.
func (d *Driver) WaitTask(ctx context.Context, id string) (<-chan *drivers.ExitResult, error) {
	task, found := d.tasks.get(id)
	if !found {
		return nil, drivers.ErrTaskNotFound
	}
	d.allocBuilt(d.current(), task)
	results := make(chan *drivers.ExitResult, 1)
	go func() {
		defer close(results)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
		d.tellRefused(ctx, task)
		if d.awaitEnd(ctx, task) == nil {
			results <- d.settle(task)
		}
	}()
	return results, nil
}

// StopTask sends the job's kill signal, and SIGKILL to what still runs after the timeout.
func (d *Driver) StopTask(id string, timeout time.Duration, signal string) error {
	task, found := d.tasks.get(id)
	if !found {
		return drivers.ErrTaskNotFound
	}
	return d.stop(task, timeout, signal)
}

func (d *Driver) stop(t *task, timeout time.Duration, signal string) error {
	ctx, cancel := context.WithTimeout(d.ctx, takeTimeout)
	defer cancel()
	if err := t.awaitTaken(ctx); err != nil {
		return err
	}
	t.setStopped()
	switch {
	case signal != "":
	case t.state.StopSignal != "":
		signal = t.state.StopSignal
	default:
		signal = defaultStopSignal
	}
	// A container that cannot be signalled is killed at once: the signal was a courtesy.
	if err := d.signal(t, signal); err != nil {
		d.logger.Warn("a task cannot be asked to stop and is killed", "task", t.cfg.ID, "signal", signal, "error", err)
		timeout = 0
	}
	if t.endsWithin(d.ctx, timeout) {
		return nil
	}
	if err := d.signal(t, "SIGKILL"); err != nil {
		return fmt.Errorf("task %s: %w", t.cfg.Name, err)
	}
	if !t.endsWithin(d.ctx, removeTimeout) {
		return fmt.Errorf("task %s: its container still runs %s after SIGKILL", t.cfg.Name, removeTimeout)
	}
	return nil
}

// endsWithin waits for the end of the task's process.
func (t *task) endsWithin(ctx context.Context, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-t.taken:
	case <-ctx.Done():
	}
	select {
	case <-t.ended():
		return true
	case <-ctx.Done():
		// Both may have come; the end counts.
		select {
		case <-t.ended():
			return true
		default:
			return false
		}
	}
}

// signal sends a signal through podman, and where that does not answer, to the process itself.
func (d *Driver) signal(t *task, name string) error {
	name, number, err := parseSignal(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, takeTimeout)
	defer cancel()
	if err := t.awaitTaken(ctx); err != nil {
		return err
	}
	// A user whom the directory service does not know just now is no reason not to end the process.
	endpoint, err := d.endpointOf(t)
	if err == nil {
		ctx, cancel := context.WithTimeout(d.ctx, d.current().config.ClientTimeout)
		defer cancel()
		err = endpoint.Client().Kill(ctx, t.state.ContainerID, name)
	}
	select {
	case <-t.ended():
		return nil // there is nothing left to signal
	default:
	}
	if err != nil && t.process != nil && t.process.Signal(number) == nil {
		d.logger.Warn("podman did not pass a signal on; it was sent to the process", "task", t.cfg.ID, "signal", name, "error", err)
		return nil
	}
	return err
}

// parseSignal takes "SIGINT", "int" and "SIGRTMIN+3" as jobs write them, and "2" as images do. The name is the one for
// podman, which takes a number where a signal has no name.
func parseSignal(text string) (name string, number unix.Signal, err error) {
	parsed, err := signal.ParseSignal(text)
	if err != nil || parsed < 1 || parsed > 64 {
		return "", 0, fmt.Errorf("%.40q is not a signal; use a name such as SIGTERM", text)
	}
	return cmp.Or(unix.SignalName(parsed), strconv.Itoa(int(parsed))), parsed, nil
}

// SignalTask sends a signal to a task, for a user or for a template with change_mode = "signal".
func (d *Driver) SignalTask(id string, signal string) error {
	task, found := d.tasks.get(id)
	if !found {
		return drivers.ErrTaskNotFound
	}
	if err := d.mayReach(task); err != nil {
		return fmt.Errorf("task %s: sending %s: %w", task.cfg.Name, signal, err)
	}
	return d.signal(task, signal)
}

// DestroyTask removes a task's container and forgets the task. A running one is stopped only with force. Of a task
// that could not be recovered, it removes what there is. Nomad does not ask again: what cannot be removed now is left to
// the reconciler.
func (d *Driver) DestroyTask(id string, force bool) error {
	task, found := d.tasks.get(id)
	if !found {
		return d.destroyUnknown(id)
	}
	if task.giveUp != nil {
		task.giveUp()
		<-task.taken
	}
	if !task.endsWithin(d.ctx, 0) && !force {
		return fmt.Errorf("task %s is running; stop it first, or destroy it by force", task.cfg.Name)
	}
	node, left := d.current(), task.intent()
	err := d.remove(node, task)
	if !d.tasks.remove(id) {
		return err // another call has done it meanwhile
	}
	d.weights.touch(task.state.HostUID)
	if err != nil {
		err = errors.Join(fmt.Errorf("task %s: %w", task.cfg.Name, err), node.intents.abandon(left))
	} else {
		err = node.intents.remove(left.Container)
	}
	err = errors.Join(err, task.release())
	d.uncoverUnused(node, task.cfg.AllocDir)
	d.claims.release(left.Container)
	node.wakeReconciler()
	return err
}

// remove ends the task, and removes its container, unless the agent's configuration keeps it, and the rest.
func (d *Driver) remove(node *node, t *task) error {
	if !t.endsWithin(d.ctx, 0) {
		if err := d.stop(t, 0, "SIGKILL"); err != nil {
			return err
		}
	}
	d.settle(t)
	err := t.logError()
	if t.endpoint != nil && node.self.IsRoot() {
		// Nothing is there, unless the driver has died while it started the container again.
		err = errors.Join(err, rootless.ClearStage(t.endpoint.User(), t.intent().stage()))
	}
	if !node.config.GC.Container {
		return err
	}
	if removeErr := d.removeContainer(t); removeErr != nil {
		err = errors.Join(err, fmt.Errorf("removing its container: %w", removeErr))
	}
	return err
}

func (d *Driver) removeContainer(t *task) error {
	endpoint, err := d.endpointOf(t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, removeTimeout)
	defer cancel()
	client, err := endpoint.Activate(ctx)
	if err != nil {
		return err
	}
	return client.Remove(ctx, t.state.ContainerID, true)
}

// destroyUnknown removes what is left of a task that is noted but not known: Nomad destroys so what it could not
// recover, before it starts the task again.
func (d *Driver) destroyUnknown(id string) error {
	node := d.current()
	if node == nil {
		return drivers.ErrTaskNotFound
	}
	noted, err := node.intents.all()
	for _, left := range noted {
		if left.TaskID != id {
			continue
		}
		if !d.claims.try(left.Container) {
			return fmt.Errorf("task %s: its container %s is being started or removed", id, left.Container)
		}
		defer d.claims.release(left.Container)
		err := d.clear(d.ctx, node, left)
		if err != nil {
			err = errors.Join(err, node.intents.abandon(left))
			node.wakeReconciler()
		}
		return err
	}
	return errors.Join(drivers.ErrTaskNotFound, err)
}

// InspectTask says how a task is.
func (d *Driver) InspectTask(id string) (*drivers.TaskStatus, error) {
	task, found := d.tasks.get(id)
	if !found {
		return nil, drivers.ErrTaskNotFound
	}
	status := &drivers.TaskStatus{
		ID:               id,
		Name:             task.cfg.Name,
		State:            drivers.TaskStateRunning,
		StartedAt:        task.state.StartedAt,
		NetworkOverride:  task.state.Network,
		DriverAttributes: map[string]string{"container_id": task.state.ContainerID},
	}
	if exit, endedAt := task.result(); exit != nil {
		status.State = drivers.TaskStateExited
		status.ExitResult = exit
		status.CompletedAt = endedAt
	}
	return status, nil
}
