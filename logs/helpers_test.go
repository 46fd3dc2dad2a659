package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// conmon writes a k8s-file log as conmon does: each line in one write, at the end of the file.
type conmon struct {
	t    testing.TB
	file *os.File
}

func newConmon(t testing.TB, dir string) *conmon {
	f, err := os.OpenFile(filepath.Join(dir, "ctr.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return &conmon{t: t, file: f}
}

// print logs what the container prints; a last line without newline as a partial one.
func (c *conmon) print(s stream, text string) {
	c.t.Helper()
	const bufSize = 8192
	for text != "" {
		line, rest, full := strings.Cut(text, "\n")
		tag := "F"
		if !full {
			tag = "P"
		}
		if len(line) > bufSize {
			line, rest, tag = text[:bufSize], text[bufSize:], "P"
		}
		_, err := fmt.Fprintf(c.file, "%s %s %s %s\n", time.Now().Format("2006-01-02T15:04:05.000000000-07:00"), [streams]string{"stdout", "stderr"}[s], tag, line)
		must.NoError(c.t, err)
		text = rest
	}
}

// logmon reads a FIFO to its end, as Nomad's does.
type logmon struct {
	mu   sync.Mutex
	got  bytes.Buffer
	grew chan struct{}
	done chan struct{}
}

func newLogmon(t testing.TB, path string) *logmon {
	l := &logmon{grew: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		f, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.Copy(l, f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
	}()
	return l
}

func (l *logmon) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.got.Write(p)
	l.mu.Unlock()
	select {
	case l.grew <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *logmon) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got.String()
}

// await waits until cond holds of what was read.
func (l *logmon) await(t testing.TB, cond func(got []byte) bool) {
	t.Helper()
	holds := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return cond(l.got.Bytes())
	}
	for !holds() {
		select {
		case <-l.grew:
		case <-l.done:
			must.True(t, holds(), must.Sprint("end of file before that"))
			return
		case <-t.Context().Done():
			t.Fatal("test ends")
		}
	}
}

// end waits for the end of file and returns everything read.
func (l *logmon) end() string {
	<-l.done
	return l.text()
}

// fixture is one task's directory: a log file and two FIFOs.
type fixture struct {
	dir    string
	conmon *conmon
	req    FollowRequest
}

func newFixture(t testing.TB, task string) *fixture {
	dir := t.TempDir()
	logs := filepath.Join(dir, "alloc", "logs")
	must.NoError(t, os.MkdirAll(logs, 0o755))
	x := &fixture{dir: dir, conmon: newConmon(t, dir), req: FollowRequest{
		Task: task, File: filepath.Join(dir, "ctr.log"), UID: uint32(os.Geteuid()),
		Stdout: filepath.Join(logs, ".x.stdout.fifo"), Stderr: filepath.Join(logs, ".x.stderr.fifo"),
	}}
	for _, path := range []string{x.req.Stdout, x.req.Stderr} {
		must.NoError(t, unix.Mkfifo(path, 0o600))
	}
	return x
}

// server is a log process within the test.
type server struct {
	*Client
	config ServeConfig
	stop   func() error
}

func serve(t testing.TB, c ServeConfig) *server {
	if c.StateDir == "" {
		dir := t.TempDir()
		c.StateDir, c.Socket = filepath.Join(dir, "state"), filepath.Join(dir, "run", "socket")
	}
	c.Logger = hclog.New(&hclog.LoggerOptions{Output: testWriter{t}, Level: hclog.Debug})
	c.journalctl = anybody
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, c) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { must.NoError(t, stop()) })
	return &server{Client: NewClient(c.Socket), config: c, stop: stop}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// finish finishes a task whose log is all delivered, and returns what that says of its stderr.
func finish(t testing.TB, p interface {
	Finish(ctx context.Context, task string) ([]byte, error)
}, task string) string {
	t.Helper()
	stderr, err := p.Finish(soon(t), task)
	must.NoError(t, err)
	return string(stderr)
}

// awaitNone waits until no goroutine's stack names the function.
func awaitNone(t *testing.T, function string) {
	t.Helper()
	// Shorter than the time after which HTTP's idle connections end by themselves.
	for deadline := time.Now().Add(requestTimeout / 2); ; time.Sleep(10 * time.Millisecond) {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if !bytes.Contains(stacks, []byte(function)) {
			return
		}
		must.True(t, time.Now().Before(deadline), must.Sprintf("%s:\n%s", function, stacks))
	}
}

// soon bounds what a test waits for.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// numbered returns lines first to last.
func numbered(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}
