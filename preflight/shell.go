package preflight

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// commandPatience is how long a command may take. The storage of a user that has seen nothing yet takes podman a while.
const commandPatience = 5 * time.Minute

// shell runs a command line as root's shell, apart from what the shell of whoever called this program has in its environment
// and reads from its terminal.
func shell(ctx context.Context, command string, out io.Writer) error {
	ctx, cancel := within(ctx, "the command", commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command) //nolint:gosec // it was shown, and may be run
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	// Of a session of its own: no key of the terminal interrupts it, it cannot ask there, and it ends as a whole.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // for what has left the group, and still holds the output
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// indented writes whole lines, indented and fit to print. That nobody can read them stops nothing half way.
type indented struct {
	out  io.Writer
	line []byte
}

// maxLine is how much of a line is kept, in bytes. Printable leaves less of it.
const maxLine = 4 << 10

// Write keeps what is not a whole line yet.
func (w *indented) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; {
		text, after, whole := bytes.Cut(rest, []byte{'\n'})
		w.line = append(w.line, text[:min(len(text), maxLine-len(w.line))]...)
		if whole {
			w.print()
		}
		rest = after
	}
	return len(data), nil
}

// flush writes what has no end of line.
func (w *indented) flush() {
	if len(w.line) > 0 {
		w.print()
	}
}

func (w *indented) print() {
	_, _ = fmt.Fprintf(w.out, "    %s\n", finding.Printable(string(w.line)))
	w.line = w.line[:0]
}

// ask asks a question to which "y" is yes.
func ask(ctx context.Context, in io.Reader, out io.Writer, question string) bool {
	_, _ = fmt.Fprint(out, question) // who does not see it does not answer
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // no answer is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case text := <-answer:
		return text == "y" || text == "yes"
	case <-ctx.Done():
		return false
	}
}
