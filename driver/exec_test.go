package driver

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/exits"
	"nomad-driver-podman/sockets"
)

var sessionID = strings.Repeat("0f", 32)

// execPodman is a podman with one command, which prints "out" and "err". What it answers about the command afterwards
// is a test's to say.
type execPodman struct {
	inspect string
	removed atomic.Int32
}

func (p *execPodman) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch {
	case strings.HasSuffix(r.URL.Path, "/containers/c/exec"):
		_, _ = io.WriteString(w, `{"Id":"`+sessionID+`"}`)
	case strings.HasSuffix(r.URL.Path, "/start"):
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\x01\x00\x00\x00\x00\x00\x00\x03out\x02\x00\x00\x00\x00\x00\x00\x03err")
		_ = conn.Close()
	case strings.HasSuffix(r.URL.Path, "/json"):
		if p.inspect == "" {
			http.NotFound(w, r)
		}
		_, _ = io.WriteString(w, p.inspect)
	case strings.HasSuffix(r.URL.Path, "/remove"):
		p.removed.Add(1)
	}
}

// execTask runs a command in a task of that podman. The task's process is the test's own, its cgroup another.
func execTask(t *testing.T, podman *execPodman) (*drivers.ExecTaskResult, error) {
	t.Helper()
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	self, err := exits.Identify(os.Getpid())
	must.NoError(t, err)
	endpoint := servePodman(t, podman.ServeHTTP)
	driver.node = testNode(t, config.Plugin{SocketPath: endpoint.Path()})
	running := &task{
		cfg: &drivers.TaskConfig{ID: "x", Name: "redis"}, endpoint: endpoint, taken: closed,
		state: taskState{ContainerID: "c", Cgroup: "/the/container", Socket: config.DefaultSocket},
	}
	running.process, err = driver.exits.Watch(self)
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, running.release()) })
	driver.tasks.put("x", running)
	return driver.ExecTask("x", []string{"echo"}, time.Minute)
}

func TestExecTask(t *testing.T) {
	podman := &execPodman{inspect: `{"Running": false, "ExitCode": 3}`}
	result, err := execTask(t, podman)
	must.NoError(t, err)
	must.Eq(t, "out", string(result.Stdout))
	must.Eq(t, "err", string(result.Stderr))
	must.Eq(t, 3, result.ExitResult.ExitCode)
	must.Eq(t, 1, podman.removed.Load())
}

func TestExecTaskWithoutExitCode(t *testing.T) {
	for name, test := range map[string]struct {
		inspect, says string
		removed       int32
	}{
		"podman did not see the end":  {`{"Running": false, "ExitCode": -1}`, "podman has no exit code of it", 1},
		"its container is gone":       {"", "HTTP status 404", 0},
		"it runs, and has no process": {`{"Running": true, "Pid": 0}`, "podman ended the connection before the command", 1},
		// No host user has root kill a process of somebody else.
		"it runs as another's process": {fmt.Sprintf(`{"Running": true, "Pid": %d}`, os.Getpid()), `not in the container's ("/the/container")`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			podman := &execPodman{inspect: test.inspect}
			_, err := execTask(t, podman)
			must.ErrorContains(t, err, `task redis: running "echo" in its container: `)
			must.ErrorContains(t, err, test.says)
			must.Eq(t, test.removed, podman.removed.Load())
		})
	}
	_, err := cgroupv2.Of(os.Getpid())
	must.NoError(t, err, must.Sprint("the test of another's process shows nothing"))
}

func TestIsMonitor(t *testing.T) {
	line := func(args ...string) []byte { return []byte(strings.Join(args, "\x00") + "\x00") }
	must.True(t, isMonitor(line("/usr/bin/conmon", "-c", "abc", "-u", sessionID, "-r", "crun"), sessionID))
	must.False(t, isMonitor(line("/usr/bin/conmon", "-c", "abc", "-u", "abc"), sessionID))
	must.False(t, isMonitor(line("/usr/bin/podman", "container", "cleanup", "--exec", sessionID, "abc"), sessionID))
	must.False(t, isMonitor(nil, sessionID))
}

func TestFirstSize(t *testing.T) {
	sizes := make(chan drivers.TerminalSize, 2)
	c := command{resize: sizes}
	must.Nil(t, c.firstSize())
	sizes <- drivers.TerminalSize{Height: 40, Width: 50}
	sizes <- drivers.TerminalSize{Height: 24, Width: 80}
	must.Eq(t, &sockets.TerminalSize{Height: 24, Width: 80}, c.firstSize())
	must.Nil(t, c.firstSize())
}

func TestTerminalSize(t *testing.T) {
	must.Eq(t, sockets.TerminalSize{Height: 24, Width: 80}, terminalSize(drivers.TerminalSize{Height: 24, Width: 80}))
	must.Eq(t, sockets.TerminalSize{Height: 0, Width: 65535}, terminalSize(drivers.TerminalSize{Height: -1, Width: 1 << 20}))
}

func TestTail(t *testing.T) {
	var end tail
	for _, text := range []string{"a", strings.Repeat("b", drivers.CheckBufSize), "c"} {
		n, err := end.Write([]byte(text))
		must.NoError(t, err)
		must.Eq(t, len(text), n)
	}
	must.Eq(t, strings.Repeat("b", drivers.CheckBufSize-1)+"c", string(end.text))
}
