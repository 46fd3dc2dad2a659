package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/sockets"
)

// monitorGrace is how much later than its container's process conmon is seen to end at the least: both ends are
// reported by the kernel, in no order.
const monitorGrace = time.Second

// killGrace is how long a task may take to end after a process of it was killed for its memory, without being said to go on.
const killGrace = time.Second

// awaitEnd waits until the task has ended. One whose monitor is killed is killed, too.
func (d *Driver) awaitEnd(ctx context.Context, t *task) error {
	select {
	case <-t.taken:
	case <-ctx.Done():
		return ctx.Err()
	}
	for watched := true; watched; {
		select {
		case <-t.ended():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.killed:
			// It may have been the first process, or one without which that ends.
			if t.endsWithin(ctx, killGrace) {
				return nil
			}
			if ctx.Err() == nil {
				d.tellOOMKills(t)
			}
		case <-t.unmonitored():
			watched = false
		}
	}
	if t.endsWithin(ctx, monitorGrace) {
		return nil
	}
	t.setFate(errors.New("its monitor (conmon) was killed, and then the container, since nobody could have told how that ends"))
	d.logger.Error("a container's monitor was killed; killing the container", "task", t.cfg.ID, "container", t.state.ContainerID)
	if err := t.process.Signal(unix.SIGKILL); err != nil {
		d.logger.Error("killing a container", "task", t.cfg.ID, "error", err)
	}
	select {
	case <-t.ended():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle finds the exit result of a task whose process has ended, delivers the rest of its logs, and keeps the result.
// The first caller does it, others wait for it.
func (d *Driver) settle(t *task) *drivers.ExitResult {
	t.collect.Lock()
	defer t.collect.Unlock()
	if exit, _ := t.result(); exit != nil {
		return exit
	}
	ended := time.Now()
	if t.cgroup != nil {
		_ = t.cgroup.Look() // the last one, should systemd be slow
	}
	exit := d.exitResult(t)
	ended = t.endedBy(ended)
	exit.OOMKilled = d.oomKilled(t, exit, ended)
	if exit.OOMKilled && exit.Err == nil {
		// Nomad shows people the error, and the flag only to programs.
		exit.Err = errors.New("OOM Killed: the task has used up its memory")
	}
	d.explainEnd(t, exit, ended, d.finishLog(t))
	t.setResult(exit)
	return exit
}

// endedBy is when the task has ended, at the latest at the time when that was noticed: the driver may not have been there.
func (t *task) endedBy(noticed time.Time) time.Time {
	if t.inspected != nil {
		if finished := t.inspected.State.FinishedAt; finished.After(t.state.StartedAt) && finished.Before(noticed) {
			return finished
		}
	}
	return noticed
}

// oomKilled tells whether the task has ended by the kernel's killing it for its memory. conmon may have missed that, since
// systemd removes the cgroup when its last process ends. And it takes one for it that a task has survived.
func (d *Driver) oomKilled(t *task, exit *drivers.ExitResult, ended time.Time) bool {
	if exit.ExitCode == 0 {
		return false
	}
	killed := exit.ExitCode == 128+int(unix.SIGKILL)
	if t.cgroup != nil {
		kills, err := t.cgroup.OOMKills()
		t.noteOOMKills(kills)
		if kills > 0 {
			return (killed || exit.OOMKilled) && ended.Sub(t.lastOOMKill()) < oomMoment
		}
		if err == nil {
			return exit.OOMKilled
		}
	}
	if exit.OOMKilled || !killed {
		return exit.OOMKilled
	}
	logged, err := cgroupv2.OOMKillLogged(t.state.ContainerID)
	if err != nil {
		d.logger.Debug("the kernel's log cannot be searched for an OOM kill", "task", t.cfg.ID, "error", err)
	}
	return logged
}

// exitRetry is the time between two tries to ask podman how a container has ended.
const exitRetry = time.Second

// exitResult finds out how a container ended: by podman's word, where that has seen the end of this very run. Nobody
// makes up an exit code: otherwise the result is an error that says what happened. A podman that does not answer, for
// instance because its user's manager is just going down, is asked again for a while.
func (d *Driver) exitResult(t *task) *drivers.ExitResult {
	ctx, cancel := context.WithTimeout(d.ctx, collectTimeout)
	defer cancel()
	for {
		exit, err := d.askExit(ctx, t)
		if err == nil {
			return exit
		}
		select {
		case <-time.After(exitRetry):
		case <-ctx.Done():
			return t.unknownExit(err)
		}
	}
}

func (t *task) unknownExit(why error) *drivers.ExitResult {
	return &drivers.ExitResult{ExitCode: -1, Err: fmt.Errorf("task %s: its container has ended, but nobody knows how: %w", t.cfg.Name, why)}
}

// askExit is one try. The error says why podman did not answer.
func (d *Driver) askExit(ctx context.Context, t *task) (*drivers.ExitResult, error) {
	if fate := t.knownFate(); fate != nil {
		return t.unknownExit(fate), nil
	}
	endpoint, err := d.endpointOf(t)
	if err != nil {
		return nil, err
	}
	client, err := endpoint.Activate(ctx)
	if err != nil {
		return nil, err
	}
	// podman's wait would wait for another run, too.
	container, err := client.Inspect(ctx, t.state.ContainerID)
	switch {
	case errors.Is(err, sockets.ErrNotFound):
		return d.removedResult(ctx, t, client), nil
	case err != nil:
		return nil, err
	case t.restarted(container):
		return t.unknownExit(errors.New("somebody has started it again since")), nil
	}
	// Wait returns when conmon has written everything down, the last of the log included. Its code is not taken: it is 0,
	// too, when podman has forgotten the code, as it does at a reboot and after some minutes.
	_, waited := client.Wait(ctx, t.state.ContainerID)
	container, err = client.Inspect(ctx, t.state.ContainerID)
	switch {
	case errors.Is(err, sockets.ErrNotFound):
		return d.removedResult(ctx, t, client), nil
	case err != nil:
		return nil, err
	}
	t.inspected = container
	switch {
	case container.State.ExitCode < 0:
		return t.unknownExit(errors.Join(errors.New("podman has recorded no exit code"), waited)), nil
	case !container.State.Ended() || container.State.ExitCode == 0:
		return d.checkedResult(ctx, t, endpoint, container, waited)
	}
	return exitOf(container.State.ExitCode, container.State.OOMKilled), nil
}

// checkedResult is the result of what looks like a success. podman answers 0 about a run whose end it never saw, too,
// and a program that is told to end, because everything does, mostly returns 0 though its work is not done.
func (d *Driver) checkedResult(ctx context.Context, t *task, endpoint *sockets.Endpoint, container *sockets.Container, waited error) (*drivers.ExitResult, error) {
	interruption, err := d.interruption(ctx, t, endpoint)
	if err != nil {
		return nil, err
	}
	// The times of start and end say nothing together: that of the start is taken when a short run is over already.
	seen := container.State.Ended()
	exit := exitOf(0, container.State.OOMKilled)
	switch {
	case seen && interruption != nil:
		exit.Err = fmt.Errorf("task %s ended with exit code 0, but %w: nobody knows whether it was done", t.cfg.Name, interruption)
	case interruption != nil:
		exit = t.unknownExit(fmt.Errorf("%w while it ran", interruption))
	case !seen:
		exit = t.unknownExit(errors.Join(errors.New("podman has recorded no end of this run"), waited))
	}
	return exit, nil
}

// restarted tells whether the container has been started again since the task's run.
func (t *task) restarted(container *sockets.Container) bool {
	return !t.state.Run.IsZero() && !container.State.StartedAt.Equal(t.state.Run)
}

// removedResult is the result of a container that is not there any more. podman remembers exit codes a while longer.
func (d *Driver) removedResult(ctx context.Context, t *task, client *sockets.Client) *drivers.ExitResult {
	removed := fmt.Errorf("task %s: its container was removed outside Nomad", t.cfg.Name)
	code, err := client.Wait(ctx, t.state.ContainerID)
	if err != nil {
		return &drivers.ExitResult{ExitCode: -1, Err: removed}
	}
	exit := exitOf(code, false)
	exit.Err = removed
	return exit
}

// interruption says what may have ended a task from outside, nil when that was nothing: a program that is told to end
// mostly does so with the code 0.
func (d *Driver) interruption(ctx context.Context, t *task, endpoint *sockets.Endpoint) (what, err error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if t.state.BootID != "" && boot != t.state.BootID {
		return errors.New("the host was rebooted"), nil
	}
	if t.state.Process.PID == 0 {
		return nil, nil // over before anybody could look
	}
	runs, err := endpoint.ManagerRuns(ctx, t.state.Process.Started())
	if err != nil || runs {
		return nil, err
	}
	return fmt.Errorf("the systemd manager of host user %s was stopped", endpoint.User()), nil
}

func exitOf(code int32, oom bool) *drivers.ExitResult {
	exit := &drivers.ExitResult{ExitCode: int(code), OOMKilled: oom}
	// A process that a signal has ended is reported as 128 and the signal's number, as a shell does (conmon(8)).
	if signal := exit.ExitCode - 128; signal > 0 && unix.SignalName(unix.Signal(signal)) != "" {
		exit.Signal = signal
	}
	return exit
}
