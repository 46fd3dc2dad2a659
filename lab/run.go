package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// runIn runs a command in a lab of its own: a shell command, or with "exec" a binary
// of this machine. Output is streamed, signals are passed on, the exit code is the
// command's. A command that exits with rebootCode is run again after a reboot.
func runIn(ctx context.Context, set *settings, c command) (int, error) {
	words, dir := []string{"bash", "-c", strings.Join(c.args, " ")}, "/lab"
	var extra func(*payload) error
	if c.verb == "exec" {
		b, err := newBinary(set.root, c.args)
		if err != nil {
			return 1, err
		}
		words, extra, dir = b.words(), b.load, b.dir
	}

	var spent times
	begun := time.Now()
	l, err := start(ctx, set, false, extra)
	if err != nil {
		return 1, err
	}
	defer func() {
		l.close()
		spent.all, spent.processors = time.Since(begun), l.vm.processorTime()
		fmt.Fprintln(os.Stderr, "lab: times:", spent)
	}()
	spent.start = time.Since(begun)
	boot := 1
	code, err := l.main(ctx, dir, words, boot)
	for err == nil && code == rebootCode {
		boot++
		if err = l.reboot(ctx); err == nil {
			code, err = l.main(ctx, dir, words, boot)
		}
	}
	spent.command = time.Since(begun) - spent.start
	if err == nil && c.books {
		var booksCode int
		booksCode, err = l.guest.books(ctx)
		code = max(code, booksCode)
		spent.books = time.Since(begun) - spent.start - spent.command
	}
	if (code != 0 || err != nil) && ctx.Err() == nil {
		l.saveLogs(filepath.Base(strings.Fields(c.args[0] + " lab")[0]))
		if c.keep {
			err = errors.Join(err, l.keep(ctx))
		}
	}
	return code, err
}

// times is where the time of a lab went.
type times struct {
	start, command, books, all time.Duration
	processors                 time.Duration // processor time of the machine
}

func (t times) String() string {
	return fmt.Sprintf("start %.1f s, command %.1f s, books %.1f s; %.2f processors busy",
		t.start.Seconds(), t.command.Seconds(), t.books.Seconds(), t.processors.Seconds()/t.all.Seconds())
}

// keep lets people look into a machine until "lab down".
func (l *lab) keep(ctx context.Context) error {
	if err := l.publish(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "lab: the machine is kept. A shell in it: %s ssh; to end it: %[1]s down\n", os.Args[0])
	return l.await(ctx)
}

// binaryRun is a program of this machine that is to run in the guest.
type binaryRun struct {
	file string // on this machine
	args []string
	here string // its directory on this machine
	dir  string // the same directory of the repository in the guest
}

// newBinary places the program where it is run here: "go test -exec" runs a package's
// tests in the package's directory.
func newBinary(root string, args []string) (*binaryRun, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	below, err := filepath.Rel(root, here)
	if err != nil || strings.HasPrefix(below, "..") {
		below = "."
	}
	file, err := filepath.Abs(args[0])
	if err != nil {
		return nil, err
	}
	return &binaryRun{file, args[1:], here, filepath.Join("/lab", below)}, nil
}

// load adds the program and the files that tests open.
func (b *binaryRun) load(p *payload) error {
	if err := p.add("opt/lab/"+filepath.Base(b.file), b.file); err != nil {
		return err
	}
	for _, name := range []string{"jobs", "testdata"} {
		if err := p.addIfPresent(filepath.Join(b.dir, name), filepath.Join(b.here, name)); err != nil {
			return err
		}
	}
	return nil
}

// words is the command in the guest: not below /run, where programs cannot be
// executed. Files that go test wants written for its own
// cache of results would not come back, so it does not get them.
func (b *binaryRun) words() []string {
	words := []string{"/opt/lab/" + filepath.Base(b.file)}
	for _, arg := range b.args {
		if !strings.HasPrefix(arg, "-test.testlogfile=") {
			words = append(words, arg)
		}
	}
	return words
}

// passed are the prefixes of environment variables that programs in the guest get.
var passed = []string{"E2E_", "LAB_"}

// main runs the lab's command in the guest.
func (l *lab) main(ctx context.Context, dir string, words []string, boot int) (int, error) {
	var script strings.Builder
	fmt.Fprintf(&script, "mkdir -p %s && cd %[1]s && export NOMAD_ADDR=http://127.0.0.1:4646 LAB_BOOT=%d", quote(dir), boot)
	for _, variable := range os.Environ() {
		for _, prefix := range passed {
			if strings.HasPrefix(variable, prefix) {
				name, value, _ := strings.Cut(variable, "=")
				fmt.Fprintf(&script, " %s=%s", name, quote(value))
			}
		}
	}
	// A shell around it turns the end by a signal into an exit code.
	script.WriteString(`; bash -c 'echo $BASHPID >/run/lab.pid; exec "$@"' main`)
	for _, word := range words {
		script.WriteString(" " + quote(word))
	}
	script.WriteString("; exit $?")

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	cmd := l.guest.command(context.WithoutCancel(ctx), nil, script.String())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	var impatient <-chan time.Time
	for {
		select {
		case err := <-ended:
			return exitCode(err)
		case <-l.vm.ended:
			_ = signalGroup(cmd, syscall.SIGKILL)
			return 1, errors.New("the machine has ended")
		case sig := <-signals:
			if impatient != nil {
				_ = signalGroup(cmd, syscall.SIGKILL)
				continue
			}
			impatient = time.After(10 * time.Second)
			// Only numbers from the kernel reach this shell.
			pass := fmt.Sprintf("kill -%d $(cat /run/lab.pid)", sig)
			_ = l.guest.command(context.WithoutCancel(ctx), []string{"-n"}, pass).Start()
		case <-impatient:
			_ = signalGroup(cmd, syscall.SIGKILL)
		}
	}
}

// books compares what Nomad thinks runs with what is there.
func (g *guest) books(ctx context.Context) (int, error) {
	cmd := g.command(ctx, []string{"-n"}, "exec lab inside books")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return exitCode(cmd.Run())
}

// logs is what is worth knowing about a machine in which something went wrong.
const logs = `
show() { echo "==> $*"; "$@" 2>&1; echo; }
show journalctl --no-pager --output=short-precise
show systemctl --failed --no-pager
show podman ps --all
for id in /run/user/*; do
    id=${id##*/}
    [ "$id" = 0 ] || show runuser -u "$(id -un "$id")" -- env -C / XDG_RUNTIME_DIR="/run/user/$id" podman ps --all
done
show systemd-cgls --no-pager
show findmnt
`

// saveLogs keeps the guest's logs in build/lab-logs, and shows the end of Nomad's.
// It is called when something has failed, so it only tells of its own failures.
func (l *lab) saveLogs(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := func() error {
		dir := filepath.Join(l.set.root, "build", "lab-logs")
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // beside what make builds
			return err
		}
		path := filepath.Join(dir, time.Now().Format("20060102-150405-")+name+".log")
		file, err := os.Create(path) //nolint:gosec // in the repository's build directory
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if err := l.guest.script(ctx, file, logs); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "lab: the machine's logs are in %s; the end of Nomad's:\n", path)
		return l.guest.script(ctx, os.Stderr, "journalctl --no-pager --output=cat --lines=30 --unit=nomad.service")
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: the machine's logs:", err)
	}
}

// up keeps a lab until the context ends.
func up(ctx context.Context, set *settings, ui bool) error {
	l, err := start(ctx, set, ui, nil)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.publish(); err != nil {
		return err
	}
	fmt.Printf("A shell in it:  %s ssh\nTo end it:      Ctrl-C here, or %[1]s down\n", os.Args[0])
	if ui {
		fmt.Printf("Nomad's UI:     http://127.0.0.1:%d\n", l.http)
	}
	return l.await(ctx)
}

// await returns when the context ends. That the machine ends before is an error.
func (l *lab) await(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-l.vm.ended:
		return errors.New("the machine has ended")
	}
}

// newest is the guest of the running lab that became ready last, or nil.
func newest(c cache) (*guest, error) {
	labs, err := running(c)
	if err != nil || len(labs) == 0 {
		return nil, err
	}
	return labs[0].guest, nil
}

// shell is a root shell, or a command, in the running lab, else in one of its own.
func shell(ctx context.Context, set *settings, words []string) (int, error) {
	g, err := newest(set.cache)
	if err != nil {
		return 1, err
	}
	if g == nil {
		l, err := start(ctx, set, false, nil)
		if err != nil {
			return 1, err
		}
		defer l.close()
		g = l.guest
	}
	// In this process group: an interactive shell needs the terminal.
	args := append(g.options(), words...)
	if len(words) == 0 {
		args = append(g.options("-t"), "cd /lab; NOMAD_ADDR=http://127.0.0.1:4646 exec bash -l")
	}
	cmd := exec.CommandContext(ctx, "ssh", args...) //nolint:gosec // the user's own command
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return exitCode(cmd.Run())
}

// booksOfRunning checks the books of the running lab.
func booksOfRunning(ctx context.Context, set *settings) (int, error) {
	g, err := newest(set.cache)
	if err != nil {
		return 1, err
	}
	if g == nil {
		return 1, errors.New("no lab is running; start one with: lab up")
	}
	if err := g.connect(ctx, nil); err != nil {
		return 1, err
	}
	defer g.disconnect()
	return g.books(ctx)
}

// down ends this user's running labs and waits until they are gone.
func down(ctx context.Context, set *settings) error {
	for asked := map[int]bool{}; ; {
		labs, err := running(set.cache)
		if err != nil || len(labs) == 0 {
			return err
		}
		for _, r := range labs {
			if asked[r.pid] {
				continue
			}
			asked[r.pid] = true
			fmt.Printf("ending the lab of process %d\n", r.pid)
			// Its lock is held, so the process lives.
			if err := syscall.Kill(r.pid, syscall.SIGTERM); err != nil {
				return fmt.Errorf("process %d: %w", r.pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
