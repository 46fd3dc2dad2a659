package driver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/spec"
)

// defaultStopSignal is what ends a container when neither the job nor the image names a signal.
const defaultStopSignal = "SIGTERM"

// WaitTask reports a task's exit, once it is known.
func (d *Driver) WaitTask(ctx context.Context, id string) (<-chan *drivers.ExitResult, error) {
	task, found := d.tasks.get(id)
	if !found {
		return nil, drivers.ErrTaskNotFound
	}
	results := make(chan *drivers.ExitResult, 1)
	go func() {
		defer close(results)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
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
	endpoint, err := d.endpointOf(t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.current().config.ClientTimeout)
	defer cancel()
	err = endpoint.Client().Kill(ctx, t.state.ContainerID, name)
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

// parseSignal takes "SIGINT" and "int" as jobs write them, and "2" as images do.
func parseSignal(text string) (string, unix.Signal, error) {
	if number, err := strconv.Atoi(text); err == nil {
		text = unix.SignalName(unix.Signal(number))
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	number := unix.SignalNum(name)
	if number == 0 {
		return "", 0, fmt.Errorf("%q is not a signal; use a name such as SIGTERM", text)
	}
	return name, number, nil
}

// SignalTask sends a signal to a task.
func (d *Driver) SignalTask(id string, signal string) error {
	task, found := d.tasks.get(id)
	if !found {
		return drivers.ErrTaskNotFound
	}
	return d.signal(task, signal)
}

// DestroyTask removes a task's container and forgets the task. A running one is stopped only with force. Of a task
// that could not be recovered, it removes what there is.
func (d *Driver) DestroyTask(id string, force bool) error {
	task, found := d.tasks.get(id)
	if !found {
		return d.destroyUnknown(id)
	}
	if !task.endsWithin(d.ctx, 0) {
		if !force {
			return fmt.Errorf("task %s is running; stop it first, or destroy it by force", task.cfg.Name)
		}
		if err := d.stop(task, 0, "SIGKILL"); err != nil {
			return err
		}
	}
	d.settle(task)
	// Nomad does not ask again: what cannot be removed now is left to the reconciler.
	node, name := d.current(), spec.ContainerName(task.cfg)
	err := d.remove(node, task)
	if err != nil {
		err = errors.Join(fmt.Errorf("task %s: removing its container: %w", task.cfg.Name, err), node.intents.abandon(name))
	} else {
		err = node.intents.remove(name)
	}
	if !d.tasks.remove(id) {
		return err // another call has done it meanwhile
	}
	d.claims.release(name)
	select {
	case node.destroyed <- struct{}{}:
	default: // it is about to look anyway
	}
	return errors.Join(err, task.release())
}

// remove removes the task's container, unless the agent's configuration keeps it.
func (d *Driver) remove(node *node, t *task) error {
	if !node.config.GC.Container {
		return nil
	}
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
		return d.clear(d.ctx, node, left)
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
