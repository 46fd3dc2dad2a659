//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// exec runs a command in a task as `nomad alloc exec` does, without a terminal.
func (j *job) exec(t *testing.T, alloc *api.Allocation, task string, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	code, stdout, stderr, err := tryExec(t.Context(), alloc, task, stdin, args...)
	must.NoError(t, err)
	return code, stdout, stderr
}

func tryExec(ctx context.Context, alloc *api.Allocation, task string, stdin io.Reader, args ...string) (code int, stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out, errs bytes.Buffer
	code, err = nomad.Allocations().Exec(ctx, alloc, task, false, args, stdin, &out, &errs, nil, nil)
	return code, out.String(), errs.String(), err
}

// nothing is an empty standard input.
func nothing() io.Reader { return strings.NewReader("") }

func TestExec(t *testing.T) {
	j := run(t, "exec", only("exec"))
	for task, user := range map[string]hostUser{"rootless": teamA, "rootful": root} {
		t.Run(task, func(t *testing.T) {
			alloc := j.running(t, task)
			t.Run("streams and exit codes", func(t *testing.T) {
				code, stdout, stderr := j.exec(t, alloc, task, nothing(), "sh", "-c", "echo out; echo err >&2; exit 7")
				must.Eq(t, 7, code)
				must.Eq(t, "out\n", stdout)
				must.Eq(t, "err\n", stderr)

				code, stdout, stderr = j.exec(t, alloc, task, nothing(), "true")
				must.Eq(t, 0, code)
				must.Eq(t, "", stdout+stderr)

				code, _, stderr = j.exec(t, alloc, task, nothing(), "no-such-command")
				must.Eq(t, 127, code)
				must.StrContains(t, stderr, "no-such-command")
				code, _, _ = j.exec(t, alloc, task, nothing(), "/etc")
				must.Eq(t, 126, code)
			})
			t.Run("as the task's user", func(t *testing.T) {
				_, stdout, _ := j.exec(t, alloc, task, nothing(), "sh", "-c", `echo "$(id -un)|$(pwd)|$GREETING|$NOMAD_TASK_NAME"`)
				must.Eq(t, "app|/usr/bin|hello, world|"+task+"\n", stdout)
			})
			t.Run("standard input", func(t *testing.T) {
				input := make([]byte, 100_000)
				_, _ = rand.Read(input)
				code, stdout, _ := j.exec(t, alloc, task, bytes.NewReader(input), "cat")
				must.Eq(t, 0, code)
				must.True(t, stdout == string(input), must.Sprintf("cat got %d bytes and returned %d, or other ones", len(input), len(stdout)))
			})
			t.Run("keys that podman has a use for", func(t *testing.T) { specialKeys(t, alloc, task) })
			t.Run("terminal", func(t *testing.T) { terminal(t, alloc, task) })
			t.Run("many at once", func(t *testing.T) {
				var all sync.WaitGroup
				for i := range 10 {
					all.Go(func() {
						code, stdout, stderr, err := tryExec(t.Context(), alloc, task, strings.NewReader(fmt.Sprint(i)), "sh", "-c", "cat; cat /proc/self/cgroup >&2; exit "+fmt.Sprint(i))
						if err != nil || code != i || stdout != fmt.Sprint(i) || stderr != "0::/\n" {
							t.Errorf("session %d: code %d, stdout %q, stderr %q, error %v", i, code, stdout, stderr, err)
						}
					})
				}
				all.Wait()
			})
			t.Run("cancelled", func(t *testing.T) { cancelled(t, user, alloc, task) })
			onlyTheTask(t, user, alloc, task)
		})
	}
	t.Run("the task ends", func(t *testing.T) {
		alloc := j.running(t, "rootless")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		output, stdout := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			code, err := nomad.Allocations().Exec(ctx, alloc, "rootless", false, []string{"sh", "-c", "echo ready; sleep 600"}, nothing(), stdout, io.Discard, nil, nil)
			if err == nil && code != 137 {
				err = fmt.Errorf("exit code %d", code)
			}
			ended <- errors.Join(err, stdout.CloseWithError(err))
		}()
		awaitText(t, output, "ready")
		j.stop(t)
		// By now podman may have removed the container with all it knew of the command.
		if err := <-ended; err != nil {
			must.StrContains(t, err.Error(), "HTTP status 404")
		}
	})
}

// specialKeys presses Ctrl-P and Ctrl-Q, with which podman by default leaves a command, after it has kept the first back.
func specialKeys(t *testing.T, alloc *api.Allocation, task string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	input, keys := io.Pipe()
	output, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		code, err := nomad.Allocations().Exec(ctx, alloc, task, false, []string{"cat"}, input, stdout, io.Discard, nil, nil)
		if err == nil && code != 0 {
			err = fmt.Errorf("exit code %d", code)
		}
		// Nobody waits for a session that has ended early.
		ended <- errors.Join(err, input.CloseWithError(err), stdout.CloseWithError(err))
	}()
	for _, key := range []string{"a", "\x10", "\x11", "z"} {
		_, err := io.WriteString(keys, key)
		must.NoError(t, err)
		echo := make([]byte, 1)
		_, err = io.ReadFull(output, echo)
		must.NoError(t, err, must.Sprintf("key %q", key))
		must.Eq(t, key, string(echo))
	}
	must.NoError(t, keys.Close())
	must.NoError(t, <-ended)
}

// awaitText reads until a line says the text, and drops what comes after it.
func awaitText(t *testing.T, from io.Reader, text string) {
	t.Helper()
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			go func() { _, _ = io.Copy(io.Discard, from) }()
			return
		}
	}
	t.Fatalf("the output ended before %q (%v)", text, lines.Err())
}

// terminal resizes the terminal of a command while it runs.
func terminal(t *testing.T, alloc *api.Allocation, task string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sizes := make(chan api.TerminalSize, 2)
	sizes <- api.TerminalSize{Height: 50, Width: 132}
	input, typed := io.Pipe()
	output, stdout := io.Pipe()
	var errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		script := `has() { until [ "$(stty size)" = "$1" ]; do sleep 0.1; done; echo "size $1"; }; has "50 132"; has "40 100"; read line; echo "got $line"; exit 3`
		code, err := nomad.Allocations().Exec(ctx, alloc, task, true, []string{"sh", "-c", script}, input, stdout, &errs, sizes, nil)
		if err != nil {
			t.Errorf("terminal session: %v", err)
		}
		_, _ = input.CloseWithError(err), stdout.CloseWithError(err) // these cannot fail
		done <- code
	}()
	awaitOutput := bufio.NewReader(output)
	line := func() string {
		text, err := awaitOutput.ReadString('\n')
		must.NoError(t, err)
		return text
	}
	must.Eq(t, "size 50 132\r\n", line())
	sizes <- api.TerminalSize{Height: 40, Width: 100}
	must.Eq(t, "size 40 100\r\n", line())
	_, err := io.WriteString(typed, "text\r")
	must.NoError(t, err)
	must.Eq(t, "text\r\n", line(), must.Sprint("the terminal's echo"))
	must.Eq(t, "got text\r\n", line())
	must.Eq(t, 3, <-done)
	must.Eq(t, "", errs.String())
}

// cancelled ends a session whose command and its child run on. Nomad notices with the next output that nobody is
// there to take it.
func cancelled(t *testing.T, user hostUser, alloc *api.Allocation, task string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	output, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := nomad.Allocations().Exec(ctx, alloc, task, false, []string{"sh", "-c", "sleep 4000 & while :; do echo tick; sleep 0.2; done"}, nothing(), stdout, io.Discard, nil, nil)
		ended <- errors.Join(err, stdout.CloseWithError(err))
	}()
	awaitText(t, output, "tick")
	must.Greater(t, 1, len(user.container(t, alloc, task).pids(t)))
	cancel()
	must.ErrorIs(t, <-ended, context.Canceled)
	must.NoError(t, output.Close())
	onlyTheTask(t, user, alloc, task)
}

// onlyTheTask waits until the container has only the task's own process, podman only a monitor of that, and no record
// of commands.
func onlyTheTask(t *testing.T, user hostUser, alloc *api.Allocation, task string) {
	t.Helper()
	eventually(t, "the end of all commands in task "+task, func() error {
		c := user.container(t, alloc, task)
		if pids := c.pids(t); len(pids) != 1 || pids[0] != c.State.Pid {
			return fmt.Errorf("processes %v are in the container, whose own is %d", pids, c.State.Pid)
		}
		if monitors := monitors(t, c); len(monitors) != 1 || monitors[0] != c.State.ConmonPid {
			return fmt.Errorf("processes %v are monitors of the container, whose own is %d", monitors, c.State.ConmonPid)
		}
		if len(c.ExecIDs) != 0 {
			return fmt.Errorf("podman has the sessions %v", c.ExecIDs)
		}
		return nil
	})
}

// monitors are the processes that are podman's monitors of a container or of commands in it.
func monitors(t *testing.T, c container) []int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must.NoError(t, err)
	var pids []int
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte("conmon\x00")) && bytes.Contains(line, []byte("\x00-c\x00"+c.ID+"\x00")) {
			pids = append(pids, number(t, filepath.Base(filepath.Dir(path))))
		}
	}
	return pids
}

// A template's script runs in the container when the template changes. One that hangs is killed with its children.
func TestExecTemplateScript(t *testing.T) {
	script := func(text string) {
		t.Helper()
		_, _, err := nomad.Variables().Update(&api.Variable{Path: "nomad/jobs/exec", Items: map[string]string{"script": text}}, nil)
		must.NoError(t, err)
	}
	script("true")
	t.Cleanup(func() {
		_, err := nomad.Variables().Delete("nomad/jobs/exec", nil)
		must.NoError(t, err)
	})
	j := run(t, "exec", only("template"))
	alloc := j.running(t, "template")

	script("hostname >/local/ran")
	j.says(t, "template", "Template successfully ran script /bin/sh")
	ran, err := os.ReadFile(filepath.Join(allocDir(alloc.ID), "template", "local", "ran"))
	must.NoError(t, err)
	must.Eq(t, teamA.container(t, alloc, "template").ID[:12], strings.TrimSpace(string(ran)))

	script("exit 5")
	j.says(t, "template", "exited with code code: 5")

	script("sleep 5000 & sleep 5000")
	state := j.says(t, "template", "it did not end within 30s and was killed")
	must.Eq(t, "running", state.State)
	onlyTheTask(t, teamA, alloc, "template")
}

// A script check fails until the container has what it looks for.
func TestExecScriptCheck(t *testing.T) {
	checks := consul(t)
	j := run(t, "exec", only("check"))
	alloc := j.running(t, "check")
	check := func(status, output string) {
		t.Helper()
		eventually(t, "a check that is "+status, func() error {
			got := checks()
			if got.Status != status || !strings.Contains(got.Output, output) {
				return fmt.Errorf("it is %s: %s", got.Status, got.Output)
			}
			return nil
		})
	}
	check("critical", "can't open '/tmp/ready'")
	code, _, _ := j.exec(t, alloc, "check", nothing(), "sh", "-c", "echo all is well >/tmp/ready")
	must.Eq(t, 0, code)
	check("passing", "all is well")
}
