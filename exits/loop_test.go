package exits

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/cgroupv2"
)

// patience is how long a test waits for what must happen; it only matters in a failing test.
const patience = 20 * time.Second

func newLoop(t *testing.T) *Loop {
	t.Helper()
	l, err := New()
	must.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// idlers starts n processes whose parent is a shell, not the test, and returns them and a
// function that kills all of them with one system call.
func idlers(t *testing.T, n int) ([]Process, func()) {
	t.Helper()
	// Each waits for a line that never comes: a subshell starts sooner than a program.
	script := `n=$1; while [ "$n" -gt 0 ]; do read -r _ <&3 & echo $!; n=$((n-1)); done; echo; wait`
	shell := exec.Command("sh", "-c", script, "sh", strconv.Itoa(n))
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	silent, silence, err := os.Pipe()
	must.NoError(t, err)
	shell.ExtraFiles = []*os.File{silent}
	out, err := shell.StdoutPipe()
	must.NoError(t, err)
	must.NoError(t, shell.Start())
	killAll := func() { _ = unix.Kill(-shell.Process.Pid, unix.SIGKILL) }
	t.Cleanup(func() {
		killAll()
		_ = shell.Wait()
		_ = silent.Close()
		_ = silence.Close()
	})

	var processes []Process
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "" {
		pid, err := strconv.Atoi(lines.Text())
		must.NoError(t, err)
		p, err := Identify(pid)
		must.NoError(t, err)
		processes = append(processes, p)
	}
	must.SliceLen(t, n, processes)
	return processes, killAll
}

func watch(t *testing.T, l *Loop, p Process) *Watched {
	t.Helper()
	w, err := l.Watch(p)
	must.NoError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func isDone(w *Watched) bool {
	select {
	case <-w.Done():
		return true
	default:
		return false
	}
}

func awaitDone(t *testing.T, w *Watched, deadline <-chan time.Time) {
	t.Helper()
	select {
	case <-w.Done():
	case <-deadline:
		t.Fatalf("the end of process %d was not noticed", w.id.PID)
	}
}

func TestLoop_ThousandEndAtOnce(t *testing.T) {
	const n = 1000
	l := newLoop(t)
	processes, killAll := idlers(t, n)
	survivors, _ := idlers(t, 1)
	survivor := watch(t, l, survivors[0])

	goroutines := runtime.NumGoroutine()
	watches := make([]*Watched, n)
	for i, p := range processes {
		watches[i] = watch(t, l, p)
	}
	must.LessEq(t, goroutines, runtime.NumGoroutine())
	for _, w := range watches {
		must.False(t, isDone(w))
	}

	killAll()
	deadline := time.After(patience)
	for _, w := range watches {
		awaitDone(t, w, deadline)
	}
	must.False(t, isDone(survivor))
	must.MapLen(t, 1, l.watched)
}

func TestLoop_WatchRefusesWrongProcess(t *testing.T) {
	l := newLoop(t)
	self, err := Identify(os.Getpid())
	must.NoError(t, err)

	reused := Process{PID: self.PID, Start: self.Start - 1}
	_, err = l.Watch(reused)
	must.ErrorIs(t, err, ErrGone)
	must.StrContains(t, err.Error(), "another one")

	_, err = l.Watch(Process{PID: maxPID, Start: 1})
	must.ErrorIs(t, err, ErrGone)

	// What an endpoint claims to be a process may be no PID, or that of a thread.
	for _, pid := range []int{0, -1, -self.PID} {
		_, err = l.Watch(Process{PID: pid, Start: self.Start})
		must.Error(t, err)
	}
	must.MapEmpty(t, l.watched)
}

func TestLoop_WatchRefusesThread(t *testing.T) {
	tids, err := os.ReadDir("/proc/self/task")
	must.NoError(t, err)
	l := newLoop(t)
	for _, entry := range tids {
		tid, err := strconv.Atoi(entry.Name())
		must.NoError(t, err)
		if tid == os.Getpid() {
			continue
		}
		p, err := Identify(tid)
		must.NoError(t, err)
		_, err = l.Watch(p)
		must.Error(t, err)
	}
}

func TestLoop_ZombieIsDoneAtOnce(t *testing.T) {
	child := exec.Command("sleep", "600")
	must.NoError(t, child.Start())
	l := newLoop(t)
	p, err := Identify(child.Process.Pid)
	must.NoError(t, err)
	first := watch(t, l, p)
	must.NoError(t, child.Process.Kill())
	awaitDone(t, first, time.After(patience))

	// Nobody has reaped it: it still is what the PID means.
	second := watch(t, l, p)
	awaitDone(t, second, time.After(patience))
	must.NoError(t, second.Signal(0))

	must.Error(t, child.Wait())
	must.ErrorIs(t, second.Signal(0), ErrGone)
	_, err = l.Watch(p)
	must.ErrorIs(t, err, ErrGone)
}

func TestWatched_Signal(t *testing.T) {
	l := newLoop(t)
	child := exec.Command("sh", "-c", `trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done`)
	out, err := child.StdoutPipe()
	must.NoError(t, err)
	must.NoError(t, child.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	must.NoError(t, err)

	p, err := Identify(child.Process.Pid)
	must.NoError(t, err)
	w := watch(t, l, p)
	must.NoError(t, w.Signal(0))
	must.NoError(t, w.Signal(unix.SIGTERM))
	awaitDone(t, w, time.After(patience))

	must.Error(t, child.Wait())
	must.Eq(t, 7, child.ProcessState.ExitCode())
	must.ErrorIs(t, w.Signal(unix.SIGTERM), ErrGone)
}

func TestWatched_LookAt(t *testing.T) {
	l := newLoop(t)
	processes, killAll := idlers(t, 2)
	w, over := watch(t, l, processes[0]), watch(t, l, processes[1])
	sign, change := urgent(t)
	another, changeOther := urgent(t)
	looks := make(chan *os.File, 10)
	must.NoError(t, w.LookAt(func(changed *os.File) { looks <- changed }, sign, another))
	look := func(changed *os.File) {
		t.Helper()
		select {
		case got := <-looks:
			must.EqOp(t, changed, got)
		case <-time.After(patience):
			t.Fatal("not looked at")
		}
	}
	for range 3 {
		change()
		look(sign)
		changeOther()
		look(another)
	}
	must.NoError(t, over.Close())
	must.NoError(t, over.LookAt(func(*os.File) { t.Error("looked at after the end of the watch") }, sign))
	killAll()
	awaitDone(t, w, time.After(patience))
	look(nil) // before the end was known
	must.MapEmpty(t, l.watched)
	must.Eq(t, 0, len(looks))
}

// What changed in a cgroup is reported when that is gone, too, and its removal is no change.
func TestWatched_LookAtRemoved(t *testing.T) {
	l := newLoop(t)
	processes, killAll := idlers(t, 1)
	w := watch(t, l, processes[0])
	emptied, removed := newCgroup(t), newCgroup(t)
	looks := make(chan *os.File, 10)
	must.NoError(t, w.LookAt(func(changed *os.File) { looks <- changed }, emptied.events, removed.events))
	must.NoError(t, os.Remove(removed.dir))

	// Nothing is looked at before both has happened.
	l.mu.Lock()
	process := exec.Command("sleep", "1d")
	process.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(emptied.fd.Fd())}
	must.NoError(t, process.Start())
	must.NoError(t, process.Process.Kill())
	must.Error(t, process.Wait())
	must.NoError(t, os.Remove(emptied.dir))
	l.mu.Unlock()

	killAll()
	awaitDone(t, w, time.After(patience))
	must.EqOp(t, emptied.events, <-looks)
	for changed := range looks {
		if changed == nil {
			break // the end
		}
		must.EqOp(t, emptied.events, changed)
	}
}

// newCgroup is an empty cgroup. What is in it is in its file cgroup.events.
func newCgroup(t *testing.T) (c struct {
	dir        string
	fd, events *os.File
}) {
	t.Helper()
	hierarchy, err := cgroupv2.Mounted()
	if err != nil {
		t.Skip(err)
	}
	own, err := cgroupv2.Of(os.Getpid())
	must.NoError(t, err)
	if c.dir, err = os.MkdirTemp(filepath.Join(hierarchy.Root, own), "exits-test-"); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(c.dir) })
	for name, file := range map[string]**os.File{"": &c.fd, "cgroup.events": &c.events} {
		*file, err = os.Open(filepath.Join(c.dir, name))
		must.NoError(t, err)
		t.Cleanup(func() { must.NoError(t, (*file).Close()) })
	}
	_, err = io.ReadAll(c.events) // what it says by now is known
	must.NoError(t, err)
	return c
}

// urgent is a file that reports EPOLLPRI with each change: a socket that gets out-of-band data (tcp(7)).
func urgent(t *testing.T) (file *os.File, change func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	ends := make([]*os.File, 2)
	for i, open := range []func() (net.Conn, error){
		func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) },
		listener.Accept,
	} {
		conn, err := open()
		must.NoError(t, err)
		tcp, ok := conn.(*net.TCPConn)
		must.True(t, ok)
		ends[i], err = tcp.File()
		must.NoError(t, errors.Join(err, conn.Close()))
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], func() { must.NoError(t, unix.Send(int(ends[1].Fd()), []byte("!"), unix.MSG_OOB)) }
}

func TestWatched_CloseForgets(t *testing.T) {
	l := newLoop(t)
	processes, killAll := idlers(t, 2)
	closed, kept := watch(t, l, processes[0]), watch(t, l, processes[1])
	must.NoError(t, closed.Close())
	must.NoError(t, closed.Close())
	must.Error(t, closed.Signal(unix.SIGKILL))

	killAll()
	awaitDone(t, kept, time.After(patience))
	must.False(t, isDone(closed))
	must.MapEmpty(t, l.watched)
}

func TestLoop_CloseWithPendingWatches(t *testing.T) {
	l := newLoop(t)
	processes, _ := idlers(t, 2)
	w := watch(t, l, processes[0])
	must.NoError(t, l.Close())
	must.False(t, isDone(w))
	must.NoError(t, w.Signal(0))
	must.NoError(t, w.Close())

	_, err := l.Watch(processes[1])
	must.ErrorContains(t, err, "closed")
}

// TestLoop_Churn is for the race detector: watches come and go while processes end.
func TestLoop_Churn(t *testing.T) {
	l := newLoop(t)
	const workers = 8
	errs := make(chan error, workers)
	for range workers {
		go func() { errs <- churn(l) }()
	}
	for range workers {
		must.NoError(t, <-errs)
	}
	must.MapEmpty(t, l.watched)
	must.Eq(t, 0, pidfds(t))
}

func churn(l *Loop) error {
	for range 20 {
		child := exec.Command("sleep", "600")
		if err := child.Start(); err != nil {
			return err
		}
		p, err := Identify(child.Process.Pid)
		if err != nil {
			return err
		}
		abandoned, err := l.Watch(p)
		if err != nil {
			return err
		}
		w, err := l.Watch(p)
		if err != nil {
			return err
		}
		killed := make(chan error, 1)
		go func() { killed <- w.Signal(unix.SIGKILL) }()
		if err := abandoned.Close(); err != nil {
			return err
		}
		select {
		case <-w.Done():
		case <-time.After(patience):
			return fmt.Errorf("the end of process %d was not noticed", p.PID)
		}
		_ = child.Wait()
		if err := errors.Join(<-killed, w.Close()); err != nil {
			return err
		}
	}
	return nil
}

// pidfds counts the pidfds that the test process has open.
func pidfds(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must.NoError(t, err)
	n := 0
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil && strings.Contains(target, "pidfd") {
			n++
		}
	}
	return n
}

func TestLoop_CloseEndsGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	l, err := New()
	must.NoError(t, err)
	must.Eq(t, before+1, runtime.NumGoroutine())
	must.NoError(t, l.Close())
	must.LessEq(t, before, runtime.NumGoroutine())
}
