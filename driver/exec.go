package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/sockets"
)

var _ drivers.ExecTaskStreamingDriver = (*Driver)(nil)

// command is what somebody wants to run in a task's container, and what it is connected to.
type command struct {
	args           []string
	tty            bool
	stdin          io.Reader // nil: it gets none
	stdout, stderr io.Writer
	resize         <-chan drivers.TerminalSize
}

// ExecTask runs a command in a task's container, for script checks and the scripts of templates, and returns the end of
// what it has printed. What runs past the timeout is killed.
func (d *Driver) ExecTask(id string, args []string, timeout time.Duration) (*drivers.ExecTaskResult, error) {
	ctx, cancel := context.WithTimeoutCause(d.ctx, timeout, fmt.Errorf("it did not end within %s and was killed", timeout))
	defer cancel()
	var stdout, stderr tail
	code, err := d.exec(ctx, id, command{args: args, stdout: &stdout, stderr: &stderr})
	if err != nil {
		return nil, err
	}
	return &drivers.ExecTaskResult{Stdout: stdout.text, Stderr: stderr.text, ExitResult: &drivers.ExitResult{ExitCode: code}}, nil
}

// ExecTaskStreaming runs a command in a task's container for `nomad alloc exec`. When ctx ends the command is killed.
func (d *Driver) ExecTaskStreaming(ctx context.Context, id string, opts *drivers.ExecOptions) (*drivers.ExitResult, error) {
	// Nobody reads or writes the other ends any more.
	context.AfterFunc(ctx, func() {
		for _, stream := range []io.Closer{opts.Stdin, opts.Stdout, opts.Stderr} {
			_ = stream.Close()
		}
	})
	code, err := d.exec(ctx, id, command{
		args: opts.Command, tty: opts.Tty, stdin: opts.Stdin, stdout: opts.Stdout, stderr: opts.Stderr, resize: opts.ResizeCh,
	})
	if err != nil {
		return nil, err
	}
	return &drivers.ExitResult{ExitCode: code}, nil
}

// exec runs a command to its end and returns its exit code. When it returns, nothing of the command runs that was not
// meant to outlive it.
func (d *Driver) exec(ctx context.Context, id string, c command) (int, error) {
	t, found := d.tasks.get(id)
	if !found {
		return 0, drivers.ErrTaskNotFound
	}
	if len(c.args) == 0 {
		return 0, fmt.Errorf("task %s: no command to run was given", t.cfg.Name)
	}
	if err := t.awaitTaken(ctx); err != nil {
		return 0, err
	}
	if t.endsWithin(ctx, 0) {
		return 0, fmt.Errorf("task %s is not running: no command can be run in its container", t.cfg.Name)
	}
	if err := d.mayReach(t); err != nil {
		err = fmt.Errorf("task %s: running %q in its container: %w", t.cfg.Name, c.args[0], err)
		c.complain(err)
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(d.ctx, func() { cancel(errors.New("the driver is shutting down")) })
	defer stop()
	code, err := d.runCommand(ctx, t, c)
	if err != nil {
		return 0, fmt.Errorf("task %s: running %q in its container: %w", t.cfg.Name, c.args[0], err)
	}
	return code, nil
}

func (d *Driver) runCommand(ctx context.Context, t *task, c command) (int, error) {
	endpoint, err := d.endpointOf(t)
	if err != nil {
		return 0, err
	}
	podman, err := endpoint.Client().CreateExec(ctx, t.state.ContainerID, sockets.Exec{Command: c.args, Stdin: c.stdin != nil, TTY: c.tty})
	if err != nil {
		return 0, err
	}
	s := &session{task: t, podman: podman, monitors: t.monitors()}
	broken := s.run(ctx, c)
	// What is left of the command has to go, also when ctx is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execEndTimeout)
	defer cancel()
	state, err := s.end(ctx)
	if forgetErr := s.forget(ctx, !errors.Is(err, sockets.ErrNotFound)); forgetErr != nil {
		d.logger.Warn("podman's record of a command, or its monitor of it, was not ended", "task", t.cfg.ID, "error", forgetErr)
	}
	switch {
	case broken != nil || err != nil:
		return 0, errors.Join(broken, err)
	case state.Running:
		return 0, errors.New("podman ended the connection before the command; the command was killed")
	case state.ExitCode < 0:
		return 0, errors.New("podman has no exit code of it")
	}
	return state.ExitCode, nil
}

// session is one command in a container.
type session struct {
	task   *task
	podman *sockets.ExecSession
	// monitors is the cgroup of podman's monitors: of the container's and of those of its commands. Empty: not known.
	monitors string

	stream  *sockets.ExecStream // nil when there is no connection to the command
	copied  chan struct{}       // closed when the stream has ended
	copyErr error               // why, once copied is closed
}

// run connects the command, until podman has ended the connection or ctx is over.
func (s *session) run(ctx context.Context, c command) error {
	stream, err := s.podman.Start(ctx, c.firstSize())
	if err != nil {
		return err
	}
	s.stream, s.copied = stream, make(chan struct{})
	go func() {
		defer close(s.copied)
		s.copyErr = stream.Copy(c.stdout, c.stderr)
	}()
	if c.stdin != nil {
		go feed(stream, c.stdin)
	}
	for {
		select {
		case <-s.copied:
			return s.copyErr
		case size := <-c.resize:
			// A terminal of the wrong size is no reason to end the command.
			_ = s.podman.Resize(ctx, terminalSize(size))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// complain says on stderr why a command is refused. Of errors, `nomad alloc exec` shows only those that fit into a close
// frame of a WebSocket, 123 bytes (RFC 6455, 5.5). The second write is taken when the first was sent
// (drivers.StreamToExecOptions).
func (c command) complain(why error) {
	for _, text := range []string{why.Error(), "\n"} {
		_, _ = io.WriteString(c.stderr, text) // the error is returned, too
	}
}

// firstSize is the size that the terminal starts with, when somebody has given one already: the newest.
func (c command) firstSize() (first *sockets.TerminalSize) {
	for {
		select {
		case size := <-c.resize:
			newest := terminalSize(size)
			first = &newest
		default:
			return first
		}
	}
}

func terminalSize(size drivers.TerminalSize) sockets.TerminalSize {
	cells := func(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) } //nolint:gosec // it fits now
	return sockets.TerminalSize{Height: cells(size.Height), Width: cells(size.Width)}
}

// feed passes input on until it is closed. Nomad takes input that is not read for a failure of the whole command, so
// that what is left when the command has ended is read, too.
func feed(stream *sockets.ExecStream, in io.Reader) {
	if _, err := io.Copy(stream, in); err == nil {
		_ = stream.CloseWrite() // fails when the command has ended
		return
	}
	_, _ = io.Copy(io.Discard, in)
}

// end makes sure that the command has ended, and closes the connection. The state is the one that it found.
func (s *session) end(ctx context.Context) (sockets.ExecState, error) {
	if s.stream != nil {
		defer func() { _ = s.stream.Close() }()
	}
	state, err := s.podman.Inspect(ctx)
	if err != nil || !state.Running {
		return state, err
	}
	if err := s.kill(ctx, state.Pid); err != nil {
		return state, err
	}
	// podman ends the stream when it has written down how the command ended.
	if s.stream != nil {
		select {
		case <-s.copied:
		case <-ctx.Done():
		}
	}
	return state, nil
}

// kill kills the command with all processes of its Unix session, which the OCI runtime has made for it. A process that
// has made itself a session of its own (setsid(2)) has asked to outlive the command. The PID is the endpoint's word: it
// counts when that process is in the task's cgroup.
func (s *session) kill(ctx context.Context, pid int) error {
	in, err := cgroupv2.Of(pid)
	if err != nil {
		return ignoreGone(err)
	}
	if own := s.task.state.Cgroup; own == "" || in != own && !isBelow(in, own) {
		return fmt.Errorf("the endpoint names process %d as the command's, but that runs in cgroup %q, not in the container's (%q)", pid, in, s.task.state.Cgroup)
	}
	leader, err := unix.Getsid(pid)
	if err != nil {
		return nil //nolint:nilerr // it has ended
	}
	hierarchy, err := cgroupv2.Mounted()
	if err != nil {
		return err
	}
	return hierarchy.Kill(ctx, in, func(pid int) bool {
		session, err := unix.Getsid(pid)
		return err == nil && session == leader
	})
}

// forget makes podman forget the command. Its monitor, which waits five minutes to do that, then has nothing left to do
// and is ended. known tells whether podman still knows the command.
func (s *session) forget(ctx context.Context, known bool) error {
	if known {
		err := s.podman.Remove(ctx)
		if errors.Is(err, sockets.ErrNotFound) {
			return nil // podman before 4.8: it is the monitor that does it
		}
		if err != nil {
			return err
		}
	}
	if s.monitors == "" {
		return nil
	}
	hierarchy, err := cgroupv2.Mounted()
	if err != nil {
		return err
	}
	return hierarchy.Kill(ctx, s.monitors, func(pid int) bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err == nil && isMonitor(line, s.podman.ID())
	})
}

// isMonitor tells from a command line (proc_pid_cmdline(5)) whether it is that of a session's monitor, conmon --cuuid.
func isMonitor(line []byte, session string) bool {
	return bytes.Contains(line, []byte("\x00-u\x00"+session+"\x00"))
}

// monitors is the cgroup of podman's monitors of a task's container.
func (t *task) monitors() string {
	if t.conmon == nil {
		return ""
	}
	in, err := cgroupv2.Of(t.state.Conmon.PID)
	if err != nil || t.conmon.Signal(0) != nil {
		return ""
	}
	return in
}

// tail keeps the end of what is written to it, as much as Nomad's own drivers do.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if over := len(t.text) - drivers.CheckBufSize; over > 0 {
		t.text = slices.Delete(t.text, 0, over)
	}
	return len(p), nil
}
