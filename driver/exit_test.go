package driver

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/sockets"
)

// fakePodman is the endpoint of a podman that gives these answers, by the end of the request's path. It tells the
// requests that it gets.
func fakePodman(t *testing.T, answers map[string]string) (endpoint *sockets.Endpoint, requests func() []string) {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	endpoint = servePodman(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v4.0.0/libpod"))
		mu.Unlock()
		verb := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		answer, found := answers[verb]
		switch {
		case verb == "info":
			answer = `{"version": {"APIVersion": "5.4.2"}}`
		case !found:
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, answer)
	})
	return endpoint, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

// servePodman is the endpoint of a podman that is the handler.
func servePodman(t *testing.T, handler http.HandlerFunc) *sockets.Endpoint {
	t.Helper()
	dir, err := os.MkdirTemp("", "podman") // t.TempDir is too long for a socket
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	must.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: handler}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { must.NoError(t, server.Close()) })
	registry, err := sockets.New([]sockets.EndpointConfig{{Name: "fake", Path: path}}, sockets.Options{})
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, registry.Close()) })
	endpoint, _ := registry.Endpoint("fake")
	return endpoint
}

func TestExitResult(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, test := range map[string]struct {
		wait, inspect     string
		started, finished time.Time
		oom               bool
		removed, running  bool
		boot              string
		fate              error
		want              drivers.ExitResult
		says              string
	}{
		"zero":                      {wait: "0", started: started, finished: started.Add(time.Second)},
		"code":                      {wait: "3", started: started, finished: started.Add(time.Second), want: drivers.ExitResult{ExitCode: 3}},
		"signal":                    {wait: "143", started: started, finished: started.Add(time.Second), want: drivers.ExitResult{ExitCode: 143, Signal: 15}},
		"no signal has this number": {wait: "255", started: started, finished: started.Add(time.Second), want: drivers.ExitResult{ExitCode: 255}},
		"out of memory": {
			wait: "137", started: started, finished: started.Add(time.Second), oom: true,
			want: drivers.ExitResult{ExitCode: 137, Signal: 9, OOMKilled: true},
		},
		"podman has forgotten the code": {
			wait: "0", inspect: "137", started: started, finished: started.Add(time.Second),
			want: drivers.ExitResult{ExitCode: 137, Signal: 9},
		},
		// podman takes the time of the start when the runtime has returned from it.
		"a very short run": {wait: "0", started: started, finished: started.Add(-time.Millisecond)},
		"no end recorded":  {wait: "0", started: started, want: drivers.ExitResult{ExitCode: -1}, says: "podman has recorded no end of this run"},
		"another run": {
			wait: "0", started: started.Add(time.Hour), finished: started.Add(2 * time.Hour),
			want: drivers.ExitResult{ExitCode: -1}, says: "somebody has started it again since",
		},
		"no code": {wait: "-1", started: started, want: drivers.ExitResult{ExitCode: -1}, says: "podman has no exit code of it"},
		"a reboot": {
			wait: "0", started: started, boot: "an earlier one",
			want: drivers.ExitResult{ExitCode: -1}, says: "the host was rebooted while it ran",
		},
		"ended by the reboot, perhaps": {
			wait: "0", started: started, finished: started.Add(time.Second), boot: "an earlier one",
			says: "ended with exit code 0, but the host was rebooted: nobody knows whether it was done",
		},
		"another run goes on": {
			wait: "0", started: started, finished: started.Add(-time.Hour), running: true,
			want: drivers.ExitResult{ExitCode: -1}, says: "podman has recorded no end of this run",
		},
		"no exit file": {
			wait: "-1", started: started, finished: started.Add(time.Second),
			want: drivers.ExitResult{ExitCode: -1}, says: "podman has recorded no exit code",
		},
		"removed": {
			wait: "137", removed: true, want: drivers.ExitResult{ExitCode: 137, Signal: 9},
			says: "its container was removed outside Nomad",
		},
		"removed and forgotten": {
			removed: true, want: drivers.ExitResult{ExitCode: -1}, says: "its container was removed outside Nomad",
		},
		"no monitor": {wait: "0", fate: errors.New("conmon was killed"), want: drivers.ExitResult{ExitCode: -1}, says: "conmon was killed"},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{}
			if test.wait != "" {
				answers["wait"] = test.wait
			}
			if !test.removed {
				answers["json"] = fmt.Sprintf(`{"Id": "c", "State": {"ExitCode": %s, "Running": %t, "StartedAt": %q, "FinishedAt": %q, "OOMKilled": %t}}`,
					cmp.Or(test.inspect, test.wait), test.running, test.started.Format(time.RFC3339Nano), test.finished.Format(time.RFC3339Nano), test.oom)
			}
			endpoint, _ := fakePodman(t, answers)
			ended := &task{
				cfg: &drivers.TaskConfig{Name: "redis"}, endpoint: endpoint, taken: closed, fate: test.fate,
				state: taskState{ContainerID: "c", Run: started, BootID: test.boot},
			}
			exit := (&Driver{ctx: t.Context()}).exitResult(ended)
			if test.says != "" {
				must.ErrorContains(t, exit.Err, test.says)
				exit.Err = nil
			}
			must.Eq(t, test.want, *exit)
		})
	}
}
