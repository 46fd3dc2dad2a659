package driver

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/rootless"
)

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, RunTestSubcommand) {
		ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
		defer stop()
		os.Exit(RunTestMain(ctx, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// What goes wrong with a task is found, and in any case nothing is left.
func TestRunTest(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose podman it is")
	}
	interrupted, interrupt := context.WithCancel(t.Context())
	for name, test := range map[string]struct {
		podman   *runner
		ctx      context.Context
		disabled bool
		says     string
	}{
		"all is well":       {podman: &runner{}},
		"no logs for Nomad": {podman: &runner{}, disabled: true},
		"no secrets":        {podman: &runner{hide: "/secrets"}, says: "it has ended with exit code 1: open /secrets/secret: no such file"},
		"no alloc":          {podman: &runner{hide: "/alloc"}, says: "it has ended with exit code 1: stderr: "},
		"another signal":    {podman: &runner{signal: unix.SIGKILL}, says: "at SIGTERM it should end with exit code 7: it has ended with exit code 137"},
		"stderr is lost":    {podman: &runner{mute: "stderr"}, says: `its stderr came out as "", not as "stderr: `},
		"interrupted":       {podman: &runner{hide: "/alloc", onStart: interrupt}, ctx: interrupted, says: context.Canceled.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			podman := test.podman
			podman.log = filepath.Join(t.TempDir(), "ctr.log")
			endpoint := servePodman(t, podman.serve(t))
			r := &runTest{version: "1", socket: "fake", image: "localhost/fake"}
			own := config.Plugin{
				Sockets:     []config.Socket{{Name: "fake", SocketPath: endpoint.Path()}},
				Rootless:    config.Rootless{Linger: true, Delegation: config.WarnDelegation},
				Logging:     config.Logging{Driver: config.LogNomad},
				GC:          config.GC{Container: true},
				DisableLogs: test.disabled, ClientTimeout: time.Minute,
			}
			ctx := cmp.Or(test.ctx, t.Context())
			err := r.configure(ctx, &own)
			r.node.self = rootless.User{Name: "agent", UID: 65000} // who stages nothing
			for _, step := range []func(context.Context) error{
				r.serveLogs, r.activate, r.makeDirectories, r.start, r.awaitReady, r.stop, r.compareOutput,
			} {
				if err == nil {
					err = step(ctx)
				}
			}
			must.NoError(t, r.unwind(ctx))
			if test.says == "" {
				must.NoError(t, err)
			} else {
				must.ErrorContains(t, err, test.says)
			}
			<-podman.ended
			must.True(t, slices.ContainsFunc(podman.requests, func(request string) bool { return strings.HasPrefix(request, "DELETE containers/") }))
			_, err = os.Stat(r.dir)
			must.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

// runner is a podman that runs this program, not in a container, and may do it wrong.
type runner struct {
	log     string         // where the container's log is
	signal  syscall.Signal // instead of the one that is asked for
	mute    string         // the stream of which nothing is logged
	hide    string         // the directory that the program does not see
	onStart func()

	mu                sync.Mutex
	requests          []string
	spec              specgen.SpecGenerator
	cmd               *exec.Cmd
	ended             chan struct{}
	started, finished time.Time
}

const runnersID = "1234567890123456789012345678901234567890123456789012345678901234"

func (p *runner) serve(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		request := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v4.0.0/libpod/")
		p.mu.Lock()
		defer p.mu.Unlock()
		p.requests = append(p.requests, request)
		var answer any = struct{}{}
		switch {
		case request == "GET info":
			answer = map[string]any{"version": map[string]any{"APIVersion": "5.4.2"}}
		case strings.HasPrefix(request, "GET images/"):
			answer = map[string]any{"Id": runnersID}
		case request == "POST containers/create":
			must.NoError(t, json.NewDecoder(r.Body).Decode(&p.spec))
			answer = map[string]any{"Id": runnersID}
		case strings.HasSuffix(request, "/start"):
			must.NoError(t, p.start())
		case strings.HasSuffix(request, "/kill"):
			must.NoError(t, p.cmd.Process.Signal(cmp.Or(p.signal, unix.SignalNum(r.URL.Query().Get("signal")))))
		case strings.HasSuffix(request, "/wait"):
			<-p.ended
			answer = p.code()
		case strings.HasPrefix(request, "GET containers/"):
			if p.spec.Name == "" {
				w.WriteHeader(http.StatusNotFound)
			}
			answer = p.inspect()
		case strings.HasPrefix(request, "DELETE containers/"):
			_ = p.cmd.Process.Kill() // it may have ended
		}
		must.NoError(t, json.NewEncoder(w).Encode(answer))
	}
}

func (p *runner) start() error {
	p.cmd = exec.Command("/proc/self/exe", p.spec.Command[1:]...)
	for name, value := range p.spec.Env {
		for _, mount := range p.spec.Mounts {
			if mount.Destination == value && value != p.hide {
				value = mount.Source
				break
			}
		}
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.started, p.ended = time.Now(), make(chan struct{})
	var logged sync.WaitGroup
	for name, stream := range map[string]io.Reader{"stdout": stdout, "stderr": stderr} {
		logged.Go(func() {
			for lines := bufio.NewScanner(stream); lines.Scan(); {
				if name != p.mute {
					_, _ = fmt.Fprintf(file, "2026-01-02T03:04:05.000000000+00:00 %s F %s\n", name, lines.Text())
				}
			}
		})
	}
	go func() {
		logged.Wait()
		_ = p.cmd.Wait() // fails with the exit code
		p.finished = time.Now()
		close(p.ended)
	}()
	if p.onStart != nil {
		p.onStart()
	}
	return nil
}

// code is the exit code as conmon(8) reports it.
func (p *runner) code() int {
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *runner) inspect() any {
	state := map[string]any{"CgroupPath": "/not-there"}
	if p.cmd != nil {
		state["StartedAt"] = p.started
		select {
		case <-p.ended:
			state["FinishedAt"], state["ExitCode"] = p.finished, p.code()
		default:
			state["Running"], state["Pid"], state["ConmonPid"] = true, p.cmd.Process.Pid, os.Getpid()
		}
	}
	return map[string]any{
		"Id": runnersID, "Name": p.spec.Name, "State": state,
		"HostConfig": map[string]any{"LogConfig": map[string]any{"Type": "k8s-file", "Path": p.log}},
	}
}

func TestRunTestConfig(t *testing.T) {
	user := rootless.User{Name: "team-a", UID: 2001}
	agents := config.Plugin{Sockets: []config.Socket{
		{Name: "default", HostUser: "team-a", Namespaces: []string{"a"}, DefaultFor: []string{"a"}},
		{Name: "broken", HostUser: "nobody-such"},
	}, GC: config.GC{Container: false}}

	own := ownConfig(agents, user, "")
	must.Eq(t, []config.Socket{{Name: "team-a", HostUser: "team-a"}}, own.Sockets)
	must.True(t, own.GC.Container)
	must.Eq(t, []config.Socket{{Name: "default", HostUser: "team-a"}}, ownConfig(agents, user, "default").Sockets)
	must.Eq(t, []string{"a"}, agents.Sockets[0].Namespaces)

	// Without blocks there is one socket, of that name.
	path := config.Plugin{SocketPath: "/run/x.sock"}
	must.Eq(t, "/run/x.sock", ownConfig(path, user, config.DefaultSocket).SocketPath)
	own = ownConfig(path, user, "")
	must.Eq(t, "", own.SocketPath)
	must.Len(t, 1, own.Sockets)
}

func TestRunTestSaysWhose(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	user := rootless.User{Name: "no-such-user", UID: 65432}
	err := RunTest(t.Context(), &config.Plugin{}, user, "", "1")
	must.ErrorContains(t, err, "run test of host user no-such-user: activating podman: ")
	err = RunTest(t.Context(), &config.Plugin{Sockets: []config.Socket{{Name: "x", HostUser: user.Name}}}, user, "x", "1")
	must.ErrorContains(t, err, `run test of socket "x": activating podman: `)
	left, err := os.ReadDir(os.TempDir())
	must.NoError(t, err)
	must.SliceEmpty(t, left)
}

// The image has this program.
func TestRunTestImage(t *testing.T) {
	var root bytes.Buffer
	must.NoError(t, writeRoot(&root))
	archive := tar.NewReader(&root)
	header, err := archive.Next()
	must.NoError(t, err)
	must.Eq(t, "nomad-driver-podman", header.Name)
	must.Eq(t, 0o755, header.FileInfo().Mode())
	program, err := os.ReadFile("/proc/self/exe")
	must.NoError(t, err)
	packed, err := io.ReadAll(archive)
	must.NoError(t, err)
	must.True(t, bytes.Equal(program, packed))
	_, err = archive.Next()
	must.ErrorIs(t, err, io.EOF)
}
