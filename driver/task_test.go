package driver

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/sockets"
)

// fakePodman is a client of a podman that answers to wait and inspect with these texts.
func fakePodman(t *testing.T, wait, inspect string) *sockets.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "podman") // t.TempDir is too long for a socket
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	must.NoError(t, err)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := inspect
		if strings.HasSuffix(r.URL.Path, "/wait") {
			answer = wait
		}
		_, _ = io.WriteString(w, answer)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { must.NoError(t, server.Close()) })
	registry, err := sockets.New([]sockets.EndpointConfig{{Name: "fake", Path: path}}, sockets.Options{})
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, registry.Close()) })
	endpoint, _ := registry.Endpoint("fake")
	return endpoint.Client()
}

func TestExitResult(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for name, test := range map[string]struct {
		wait, inspect     string
		started, finished time.Time
		oom               bool
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
		"no end recorded":  {wait: "0", started: started, want: drivers.ExitResult{ExitCode: -1}, says: "it has recorded no end of this run"},
		"another run": {
			wait: "0", started: started.Add(time.Hour), finished: started.Add(2 * time.Hour),
			want: drivers.ExitResult{ExitCode: -1}, says: "somebody has started it again since",
		},
		"no code": {wait: "-1", started: started, want: drivers.ExitResult{ExitCode: -1}, says: "podman has no exit code of it"},
	} {
		t.Run(name, func(t *testing.T) {
			inspect := fmt.Sprintf(`{"Id": "c", "State": {"ExitCode": %s, "StartedAt": %q, "FinishedAt": %q, "OOMKilled": %t}}`,
				cmp.Or(test.inspect, test.wait), test.started.Format(time.RFC3339Nano), test.finished.Format(time.RFC3339Nano), test.oom)
			ended := &task{cfg: &drivers.TaskConfig{Name: "redis"}, client: fakePodman(t, test.wait, inspect), state: taskState{Run: started}}
			exit := (&Driver{}).exitResult(t.Context(), ended)
			if test.says != "" {
				must.ErrorContains(t, exit.Err, test.says)
				exit.Err = nil
			}
			must.Eq(t, test.want, *exit)
		})
	}
}
