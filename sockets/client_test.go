package sockets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/shoenig/test/must"
)

// service is a podman service at a unix socket; handler sees paths without the API's prefix.
func service(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "podman.sock")
	serve(t, path, handler)
	return newClient("host user x", 5*time.Second, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	})
}

func serve(t *testing.T, path string, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("unix", path)
	must.NoError(t, err)
	server := httptest.NewUnstartedServer(http.StripPrefix("/v4.0.0/libpod", handler))
	must.NoError(t, server.Listener.Close())
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestInspectForms(t *testing.T) {
	const state = `"Id":"abc","State":{"Status":"running","Running":true,"Pid":42,"ConmonPid":41,"CgroupPath":"/a","StartedAt":"2026-01-02T03:04:05.6Z","FinishedAt":"0001-01-01T00:00:00Z"},
		"HostConfig":{"LogConfig":{"Type":"k8s-file","Path":"/log"},"NetworkMode":"pasta"},
		"NetworkSettings":{"IPAddress":"10.88.0.2","Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]},"Networks":{"podman":{"IPAddress":"10.88.0.2"}}}`
	for _, test := range []struct {
		name, config, signal string
	}{
		{"version 4", `"Config":{"Entrypoint":"/bin/sh -c","StopSignal":15}`, "15"},
		{"version 4 without", `"Config":{"Entrypoint":"","StopSignal":0}`, "0"},
		{"version 5", `"Config":{"Entrypoint":["/bin/sh","-c"],"StopSignal":"SIGTERM"}`, "SIGTERM"},
		{"version 5 without", `"Config":{"Entrypoint":null}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := service(t, answer("{"+state+","+test.config+"}"))
			container, err := c.Inspect(t.Context(), "abc")
			must.NoError(t, err)
			must.Eq(t, "abc", container.ID)
			must.Eq(t, 42, container.State.Pid)
			must.Eq(t, 2026, container.State.StartedAt.Year())
			must.True(t, container.State.FinishedAt.IsZero())
			must.Eq(t, "/log", container.HostConfig.LogConfig.Path)
			must.Eq(t, "10.88.0.2", container.NetworkSettings.IPAddress)
			must.Eq(t, StringOrNumber(test.signal), container.Config.StopSignal)
		})
	}
}

func TestErrors(t *testing.T) {
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/images/"):
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"cause":"image not known","message":"failed to find image x\n\u001b[31mred","response":404}`)
		case strings.HasSuffix(r.URL.Path, "/kill"):
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		case strings.HasSuffix(r.URL.Path, "/json"):
			http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
		}
	})
	_, err := c.ImageInspect(t.Context(), "x/y:1")
	must.ErrorIs(t, err, ErrNotFound)
	must.EqError(t, err, `podman of host user x: inspecting image "x/y:1": failed to find image x  [31mred (HTTP status 404)`)
	err = c.Kill(t.Context(), "abc", "SIGINT")
	apiErr := new(APIError)
	must.True(t, errors.As(err, &apiErr))
	must.Eq(t, http.StatusConflict, apiErr.StatusCode)
	must.LessEq(t, maxMessage+100, len(err.Error()))
	must.False(t, isNotFound(err))
	_, err = c.Inspect(t.Context(), "abc")
	must.ErrorContains(t, err, "HTTP status 302")
	must.NoError(t, c.Remove(t.Context(), "abc", true), must.Sprint("200 without a body"))
}

func TestRemoveOfNothing(t *testing.T) {
	c := service(t, http.NotFound)
	must.NoError(t, c.Remove(t.Context(), "abc", true))
	exists, err := c.NetworkExists(t.Context(), "abc")
	must.NoError(t, err)
	must.False(t, exists)
}

func TestAnswersAreBounded(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		text := `["` + strings.Repeat("x", 1<<16) + `",`
		if r.URL.Path == "/images/pull" {
			text = `{"stream":"` + strings.Repeat("x", 1<<16) + `"}` + "\n"
		}
		for {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	}
	c := service(t, endless)
	_, err := c.Info(t.Context())
	must.ErrorIs(t, err, ErrTooLarge)
	_, err = c.Wait(t.Context(), "abc")
	must.ErrorIs(t, err, ErrTooLarge)
	_, err = c.Pull(t.Context(), PullRequest{Reference: "x"}, nil)
	must.ErrorIs(t, err, ErrTooLarge)

	c = service(t, answer(strings.Repeat("x", maxLine+1)))
	_, err = c.Pull(t.Context(), PullRequest{Reference: "x"}, nil)
	must.ErrorIs(t, err, ErrTooLarge)
}

// Three bytes of JSON must not become a hundred in memory, five million times.
func TestListsAreBounded(t *testing.T) {
	nothings := func(n int) http.HandlerFunc { return answer("[" + strings.Repeat("{},", n) + "{}]") }
	_, err := service(t, nothings(1<<20)).List(t.Context(), nil)
	must.ErrorContains(t, err, "answer too large: a list of more than 10000")
	_, err = service(t, answer("["+strings.Repeat(" ", maxAnswer)+"]")).List(t.Context(), nil)
	must.ErrorIs(t, err, ErrTooLarge)
	listed, err := service(t, nothings(maxListed-1)).List(t.Context(), nil)
	must.NoError(t, err)
	must.Len(t, maxListed, listed)
	for _, none := range []string{"null", "[]"} {
		listed, err = service(t, answer(none)).List(t.Context(), nil)
		must.NoError(t, err)
		must.SliceEmpty(t, listed)
	}
	_, err = service(t, answer(`{"Id": "abc"}`)).List(t.Context(), nil)
	must.ErrorContains(t, err, "it is no list")

	// What nobody reads is not decoded at all.
	inspected := answer(`{"Id": "abc", "Mounts": [` + strings.Repeat("{},", 1<<20) + "{}]}")
	before := allocated()
	_, err = service(t, inspected).Inspect(t.Context(), "abc")
	must.NoError(t, err)
	must.Less(t, 40<<20, allocated()-before)
}

// allocated is how many bytes this process has ever allocated.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// What gets into messages, events and Nomad's state is short, whatever a host user's podman says.
func TestTextsAreBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, inspected := range map[string]string{
		"the answer is about another container": `{"Id": "` + long + `", "Name": "y"}`,
		"the answer's Id is too long":           `{"Id": "` + long + `", "Name": "abc"}`,
		"the answer's CgroupPath is too long":   `{"Id": "abc", "State": {"CgroupPath": "/` + long + `"}}`,
		"the answer's LogConfig.Path":           `{"Id": "abc", "HostConfig": {"LogConfig": {"Path": "/` + long + `"}}}`,
		"the answer's StopSignal":               `{"Id": "abc", "Config": {"StopSignal": "` + long + `"}}`,
		"the answer's IPAddress is too long":    `{"Id": "abc", "NetworkSettings": {"IPAddress": "` + long + `"}}`,
		"reading the answer: json: cannot":      `{"Id": "abc", "State": {"Pid": ` + strings.Repeat("9", 1<<20) + `}}`,
		"reading the answer: parsing time":      `{"Id": "abc", "State": {"StartedAt": "` + long + `"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := service(t, answer(inspected)).Inspect(t.Context(), "abc")
			must.ErrorContains(t, err, name)
			must.Less(t, 2*maxMessage, len(err.Error()))
		})
	}

	warnings := `"` + long + `"` + strings.Repeat(`,"x"`, 1000)
	_, warned, err := service(t, answer(`{"Id": "`+sessionID+`", "Warnings": [`+warnings+`]}`)).Create(t.Context(), &specgen.SpecGenerator{})
	must.NoError(t, err)
	must.Len(t, maxTexts, warned)
	must.Less(t, 2*maxMessage, len(warned[0]))
	_, _, err = service(t, answer(`{"Id": "../../x"}`)).Create(t.Context(), &specgen.SpecGenerator{})
	must.ErrorContains(t, err, "the answer has no ID of a container")

	info, err := service(t, answer(`{"version": {"APIVersion": "5.4.2"}, "host": {"cgroupManager": "`+long+`"}}`)).Info(t.Context())
	must.NoError(t, err)
	must.Less(t, 2*maxMessage, len(info.CgroupManager))
}

func TestNothingIsSentTwice(t *testing.T) {
	var count atomic.Int32
	c := service(t, func(w http.ResponseWriter, _ *http.Request) {
		count.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	for _, call := range []func() error{
		func() error { _, _, err := c.Create(t.Context(), &specgen.SpecGenerator{}); return err },
		func() error { return c.Start(t.Context(), "abc") },
		func() error { return c.Kill(t.Context(), "abc", "SIGINT") },
	} {
		count.Store(0)
		must.Error(t, call())
		must.Eq(t, 1, count.Load())
	}
}

func TestTimeouts(t *testing.T) {
	release := make(chan struct{})
	c := service(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, `{"Id":"`+sessionID+`"}`)
	})
	c.timeout = 20 * time.Millisecond
	_, err := c.Inspect(t.Context(), "abc")
	must.ErrorIs(t, err, context.DeadlineExceeded)
	must.ErrorContains(t, err, `inspecting container "abc": no answer within 20ms`)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Inspect(ctx, "abc")
	must.ErrorIs(t, err, context.Canceled)

	// Only the caller's context bounds a create.
	time.AfterFunc(60*time.Millisecond, func() { close(release) })
	_, _, err = c.Create(t.Context(), &specgen.SpecGenerator{})
	must.NoError(t, err)
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func TestConnectionsAreClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "podman.sock")
	serve(t, path, answer(`{"Id":"abc"}`))
	closed := make(chan struct{}, 1)
	c := newClient("x", time.Second, func(ctx context.Context) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		return &countedConn{conn, sync.OnceFunc(func() { closed <- struct{}{} })}, err
	})
	for range 3 {
		_, err := c.Inspect(t.Context(), "abc")
		must.NoError(t, err)
		<-closed
	}
}

func TestPull(t *testing.T) {
	var query, header string
	stream := `{"stream":"Trying to pull x...\n"}` + "\n\n" + `{"stream":"Copying blob\n"}` + "\n" + `{"images":["` + sessionID + `"],"id":"` + sessionID + `"}`
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		query, header = r.URL.Query().Encode(), r.Header.Get("X-Registry-Auth")
		_, _ = io.WriteString(w, stream)
	})
	var lines []string
	id, err := c.Pull(t.Context(), PullRequest{Reference: "x", Policy: PullMissing}, func(line string) { lines = append(lines, line) })
	must.NoError(t, err)
	must.Eq(t, sessionID, id)
	must.Eq(t, []string{"Trying to pull x...", "Copying blob"}, lines)
	must.Eq(t, "policy=missing&quiet=false&reference=x", query)
	must.Eq(t, "", header)

	verify := false
	_, err = c.Pull(t.Context(), PullRequest{
		Reference: "docker://r/x", Policy: PullAlways, TLSVerify: &verify, Arch: "arm64", OS: "linux", Variant: "v8",
		Auth: &Auth{Username: "u", Password: "p?>"},
	}, nil)
	must.NoError(t, err)
	must.Eq(t, "Arch=arm64&OS=linux&Variant=v8&policy=always&quiet=false&reference=docker%3A%2F%2Fr%2Fx&tlsVerify=false", query)
	must.Eq(t, `{"username":"u","password":"p?>"}`, decodeHeader(t, header))

	_, err = c.Pull(t.Context(), PullRequest{Reference: "x", Auth: &Auth{"u", "p", "registry:5000"}}, nil)
	must.NoError(t, err)
	must.Eq(t, `{"registry:5000":{"username":"u","password":"p"}}`, decodeHeader(t, header))

	for text, want := range map[string]string{
		`{"stream":"a"}` + "\n" + `{"error":"manifest unknown"}` + "\n" + `{"error":"also this"}`: `pulling image "x": manifest unknown; also this`,
		`{"stream":"a"}`:   "ended without an image",
		`{"id":"../../x"}`: "ended without an image",
		`{"stream":`:       "reading the answer",
	} {
		stream = text
		_, err = c.Pull(t.Context(), PullRequest{Reference: "x"}, nil)
		must.ErrorContains(t, err, want)
	}
}

func TestImages(t *testing.T) {
	var got []string
	known := http.StatusOK
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		must.NoError(t, err)
		got = append(got, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+" "+string(body))
		w.WriteHeader(known)
		if r.URL.Path == "/images/localhost/x:1/json" {
			_, _ = io.WriteString(w, `{"Id":"`+sessionID+`"}`)
		}
	})
	id, err := c.ImportImage(t.Context(), "localhost/x:1", strings.NewReader("tar"), `CMD ["/a"]`, "USER 1")
	must.NoError(t, err)
	must.EqOp(t, sessionID, id)
	must.NoError(t, c.RemoveImage(t.Context(), id))
	must.Eq(t, []string{
		"POST /images/import?changes=CMD+%5B%22%2Fa%22%5D&changes=USER+1&reference=localhost%2Fx%3A1 application/x-tar tar",
		"GET /images/localhost%2Fx:1/json  ",
		"DELETE /images/" + sessionID + "?force=true  ",
	}, got)

	_, err = c.ImportImage(t.Context(), "other", strings.NewReader("tar"))
	must.ErrorContains(t, err, `inspecting image "other"`)
	known = http.StatusNotFound
	must.NoError(t, c.RemoveImage(t.Context(), id))
	_, err = c.ImportImage(t.Context(), "localhost/x:1", strings.NewReader("tar"))
	must.ErrorContains(t, err, `importing image "localhost/x:1"`)
	known = http.StatusConflict
	must.ErrorContains(t, c.RemoveImage(t.Context(), id), "removing image")
	must.NoError(t, service(t, answer("[]")).RemoveImage(t.Context(), id))
}

func decodeHeader(t *testing.T, header string) string {
	t.Helper()
	text, err := base64.URLEncoding.DecodeString(header)
	must.NoError(t, err)
	var compact json.RawMessage
	must.NoError(t, json.Unmarshal(text, &compact))
	return strings.ReplaceAll(string(compact), `\u003e`, ">")
}

func TestPathsAndQueries(t *testing.T) {
	var got string
	c := service(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Method + " " + r.RequestURI
		_, _ = io.WriteString(w, `[]`)
	})
	must.NoError(t, c.Remove(t.Context(), "a/../b?c", false))
	must.Eq(t, "DELETE /v4.0.0/libpod/containers/a%2F..%2Fb%3Fc?volumes=true", got)
	must.NoError(t, c.Kill(t.Context(), "abc", "SIGUSR1"))
	must.Eq(t, "POST /v4.0.0/libpod/containers/abc/kill?signal=SIGUSR1", got)
	list, err := c.List(t.Context(), map[string]string{"a": "b=c"})
	must.NoError(t, err)
	must.SliceEmpty(t, list)
	must.Eq(t, `GET /v4.0.0/libpod/containers/json?all=true&filters=%7B%22label%22%3A%5B%22a%3Db%3Dc%22%5D%7D`, got)
}

func TestStartedAlready(t *testing.T) {
	c := service(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	must.NoError(t, c.Start(t.Context(), "abc"))
}

func TestWait(t *testing.T) {
	for text, want := range map[string]int32{"137": 137, "0\n": 0} {
		code, err := service(t, answer(text)).Wait(t.Context(), "abc")
		must.NoError(t, err)
		must.Eq(t, want, code)
	}
	for text, want := range map[string]string{"-1": "no exit code", "": "reading the answer", "{}": "reading the answer", "99999999999": "out of range"} {
		_, err := service(t, answer(text)).Wait(t.Context(), "abc")
		must.ErrorContains(t, err, want)
	}
}

func TestInfo(t *testing.T) {
	const format = `{"host":{"cgroupVersion":"v2","ociRuntime":{"name":"crun","path":"/usr/bin/crun","version":"crun 1.21\ncommit"},
		"security":{"rootless":true,"seccompEnabled":true,"apparmorEnabled":false},"pasta":{"executable":"/usr/bin/pasta"}},
		"store":{"graphDriverName":"overlay"},"version":{"APIVersion":"%s","Version":"%[1]s"}}`
	info, err := service(t, answer(fmt.Sprintf(format, "4.3.1"))).Info(t.Context())
	must.NoError(t, err)
	must.Eq(t, Info{
		Version: "4.3.1", APIVersion: "4.3.1", Rootless: true, CgroupVersion: "v2",
		OCIRuntime: "crun", OCIRuntimePath: "/usr/bin/crun", OCIRuntimeVersion: "crun 1.21", Seccomp: true,
		Pasta: "/usr/bin/pasta", StorageDriver: "overlay",
	}, info)
	for _, version := range []string{"3.4.4", ""} {
		_, err = service(t, answer(fmt.Sprintf(format, version))).Info(t.Context())
		must.ErrorContains(t, err, "podman 4.3 or newer")
	}
}
