package logs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// TestMain turns the test binary into a log process when the supervisor starts it, and into a journalctl when that does.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv("LOGS_TEST_PROCESS") != "":
		err = logProcess()
	case os.Getenv("LOGS_TEST_JOURNAL") != "":
		err = fakeJournalctl(os.Getenv("LOGS_TEST_JOURNAL"), os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// endAtOnce is for the processes that tests start: the race detector would have each wait a second at its end
// (https://go.dev/doc/articles/race_detector).
const endAtOnce = "GORACE=atexit_sleep_ms=0"

// logProcess is Main, but for who may run the journalctl of tests.
func logProcess() error {
	// A supervisor in Go cannot know the child's PID before it runs.
	if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	c, err := parseFlags(os.Args[1:])
	if err != nil {
		return err
	}
	c.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug})
	c.journalctl = anybody
	return Serve(ctx, c)
}

// supervisor does for a log process what systemd does: it starts it, keeps its descriptors, and
// hands them to the next one.
type supervisor struct {
	*Client
	t       *testing.T
	dir     string
	conn    *net.UnixConn
	ready   chan struct{}
	process *exec.Cmd
	exited  chan struct{} // closed when it has
	stderr  bytes.Buffer  // of all of them

	mu    sync.Mutex
	store map[string]*os.File
}

func supervise(t *testing.T) *supervisor {
	dir := t.TempDir()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	must.NoError(t, err)
	s := &supervisor{
		t: t, dir: dir, conn: conn, ready: make(chan struct{}), store: make(map[string]*os.File),
		Client: NewClient(filepath.Join(dir, "run", "socket")),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.serve()
	}()
	t.Cleanup(func() {
		s.end(unix.SIGKILL)
		must.NoError(t, conn.Close())
		<-ended
		s.drop("")
		t.Log(s.stderr.String())
	})
	s.start()
	return s
}

// serve is systemd's side of sd_notify(3).
func (s *supervisor) serve() {
	msg, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(msg, oob)
		if err != nil {
			return
		}
		vars := make(map[string]string)
		for line := range strings.Lines(string(msg[:n])) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			vars[k] = v
		}
		var files []*os.File
		control, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, c := range control {
			fds, _ := unix.ParseUnixRights(&c)
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), vars["FDNAME"]))
			}
		}
		s.mu.Lock()
		switch {
		case vars["FDSTORE"] == "1":
			s.store[vars["FDNAME"]] = files[0]
		case vars["FDSTOREREMOVE"] == "1":
			if f := s.store[vars["FDNAME"]]; f != nil {
				_ = f.Close()
				delete(s.store, vars["FDNAME"])
			}
		case vars["BARRIER"] == "1":
			_ = files[0].Close()
		case vars["READY"] == "1":
			s.ready <- struct{}{}
		}
		s.mu.Unlock()
	}
}

func (s *supervisor) start() {
	s.t.Helper()
	var names []string
	s.process = exec.Command(os.Args[0], "-socket", filepath.Join(s.dir, "run", "socket"), "-state-dir", filepath.Join(s.dir, "state"))
	s.mu.Lock()
	for name, f := range s.store {
		names = append(names, name)
		s.process.ExtraFiles = append(s.process.ExtraFiles, f)
	}
	s.mu.Unlock()
	s.process.Env = append(os.Environ(), endAtOnce, "LOGS_TEST_PROCESS=1", "NOTIFY_SOCKET="+filepath.Join(s.dir, "notify"),
		"LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	s.process.Stderr = &s.stderr
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must.NoError(s.t, s.process.Start())
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // killed
	}(s.process, s.exited)
	select {
	case <-s.ready:
	case <-s.exited:
		s.t.Fatal("the log process ended")
	}
}

func (s *supervisor) end(sig os.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(sig) // fails when it has ended
	<-s.exited
	s.process = nil
}

func (s *supervisor) restart(sig os.Signal) {
	s.t.Helper()
	s.end(sig)
	s.start()
}

// drop loses the descriptors whose names start so.
func (s *supervisor) drop(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.store {
		if strings.HasPrefix(name, prefix) {
			must.NoError(s.t, f.Close())
			delete(s.store, name)
		}
	}
}

// kept returns how many descriptors are kept.
func (s *supervisor) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.store)
}
