//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// liarDir is where the liar's sockets and files are.
const liarDir = "/run/user/2004/liar"

// podmanSocket is the real podman's.
const podmanSocket = "/run/user/2004/podman/podman.sock"

// liarEnv is set for the test's binary when it is to be the liar: to the victims, as JSON.
const liarEnv = "E2E_LIAR"

// victims are what the liar wants to do harm to.
type victims struct {
	PIDs   map[string]int // by whose they are
	Cgroup string         // of another user's container
	ID     string         // of that container
}

// lies are known by the names of tasks. The liar is honest to others.
var lies = map[string]lie{
	"pid-of-a-user":  state("Pid", func(v victims) any { return v.PIDs["team-b"] }),
	"pid-of-a-task":  state("Pid", func(v victims) any { return v.PIDs["task"] }),
	"pid-of-root":    state("Pid", func(v victims) any { return v.PIDs["root"] }),
	"pid-1":          state("Pid", always(1)),
	"pid-0":          state("Pid", always(0)),
	"pid-negative":   state("Pid", always(-1)),
	"pid-huge":       state("Pid", always(1<<40)),
	"cgroup-empty":   state("CgroupPath", always("")),
	"cgroup-root":    state("CgroupPath", always("/")),
	"cgroup-dots":    state("CgroupPath", always("/user.slice/user-2004.slice/user@2004.service/../../user-2001.slice/user@2001.service")),
	"cgroup-of-task": state("CgroupPath", func(v victims) any { return v.Cgroup }),
	"cgroup-long":    state("CgroupPath", always("/user.slice/user-2004.slice/user@2004.service/"+strings.Repeat("x", 1<<20))),
	"conmon-1":       state("ConmonPid", always(1)),
	"conmon-of-user": state("ConmonPid", func(v victims) any { return v.PIDs["team-b"] }),
	"ended":          {changes: map[string]change{"json": ended}, answers: map[string]http.HandlerFunc{"wait": zero}},

	"log-shadow":    logPath("/etc/shadow"),
	"log-symlink":   logPath(filepath.Join(liarDir, "symlink")),
	"log-hard-link": logPath(filepath.Join(liarDir, "hard-link")),
	"log-fifo":      logPath(filepath.Join(liarDir, "fifo")),
	"log-directory": logPath(liarDir),
	"log-device":    logPath("/dev/zero"),
	"log-memory":    logPath("/proc/thread-self/mem"),
	"log-long":      logPath("/" + strings.Repeat("x", 1<<20)),

	"id-of-no-container": {changes: map[string]change{"create": set("../../../../etc/shadow", "Id")}},
	"id-of-a-task":       {changes: map[string]change{"create": func(v victims, answer map[string]any) { answer["Id"] = v.ID }}},
	"another-container":  {changes: map[string]change{"json": func(v victims, answer map[string]any) { answer["Id"], answer["Name"] = v.ID, "x" }}},

	"body-endless":  {answers: map[string]http.HandlerFunc{"json": endless}},
	"body-dripping": {answers: map[string]http.HandlerFunc{"json": dripping}},
	"body-of-a-gib": {answers: map[string]http.HandlerFunc{"json": gibibyte}},
	"body-no-json":  {answers: map[string]http.HandlerFunc{"json": noJSON}},
	"body-number":   {answers: map[string]http.HandlerFunc{"json": longNumber}},

	"mounts-of-nothings": {changes: map[string]change{"json": set(nothings, "Mounts")}},

	"wait":     {answers: map[string]http.HandlerFunc{"wait": zero}},
	"exec-pid": {changes: map[string]change{"exec-json": func(v victims, answer map[string]any) { answer["Running"], answer["Pid"] = true, v.PIDs["root"] }}},

	"too-old": {changes: map[string]change{"info": set("1.0.0", "version", "APIVersion")}},
	"too-new": {changes: map[string]change{"info": set("99.0.0", "version", "APIVersion")}},
	"liar":    {answers: map[string]http.HandlerFunc{"list": listOfNothings}},
}

// nothings are so many empty objects that they take thirty times as much memory as text, where each becomes a container.
var nothings = json.RawMessage("[" + strings.Repeat("{},", 1<<20) + "{}]")

// lie is what is not true of a container's answers, by the requests' last words.
type lie struct {
	changes map[string]change
	answers map[string]http.HandlerFunc
}

// change makes a lie of podman's answer.
type change func(v victims, answer map[string]any)

func always(value any) func(victims) any { return func(victims) any { return value } }

// state is a lie about a part of a running container's state.
func state(key string, value func(victims) any) lie {
	return lie{changes: map[string]change{"json": func(v victims, answer map[string]any) {
		if state := part(answer, "State"); state["Running"] == true {
			state[key] = value(v)
		}
	}}}
}

func logPath(path string) lie {
	return lie{changes: map[string]change{"json": set(path, "HostConfig", "LogConfig", "Path")}}
}

// ended says of a container that runs that it has ended well.
func ended(_ victims, answer map[string]any) {
	if state := part(answer, "State"); state["Running"] == true {
		state["Running"], state["Status"], state["ExitCode"], state["FinishedAt"] = false, "exited", 0, state["StartedAt"]
	}
}

// part is an object in podman's answer.
func part(answer map[string]any, key string) map[string]any {
	return answer[key].(map[string]any) //nolint:errcheck // a podman of another form fails the test
}

// set is a lie about a part of a part of an answer.
func set(value any, keys ...string) change {
	return func(_ victims, answer map[string]any) {
		for _, key := range keys[:len(keys)-1] {
			answer = part(answer, key)
		}
		answer[keys[len(keys)-1]] = value
	}
}

func endless(w http.ResponseWriter, _ *http.Request) {
	_, err := io.WriteString(w, `{"Id": "`)
	for junk := bytes.Repeat([]byte("x"), 64<<10); err == nil; {
		_, err = w.Write(junk)
	}
}

func dripping(w http.ResponseWriter, _ *http.Request) {
	for _, err := io.WriteString(w, `{"Id": "`); err == nil; time.Sleep(time.Second) {
		_, _ = io.WriteString(w, "x")
		err = http.NewResponseController(w).Flush()
	}
}

func gibibyte(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", strconv.Itoa(1<<30))
	endless(w, r)
}

func listOfNothings(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nothings) }

func zero(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0") }

func noJSON(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }

func longNumber(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"State": {"Pid": `+strings.Repeat("9", 1<<20)+`}}`)
}

// liar is a host user's podman that is none: it passes requests on to the real one, and changes some of the answers.
type liar struct {
	victims victims
	real    http.RoundTripper
	// busy holds back requests that cost the machine much, so that others are answered in time.
	busy chan struct{}

	mu       sync.Mutex
	told     map[string]string // lies by the IDs of containers and of commands in them
	recorded *json.Encoder
}

// request is what the liar has recorded of one.
type recordedRequest struct {
	Method, Path string
	Header       http.Header
	Body         string
}

// recordFile is where the liar records requests, one to a line.
const recordFile = "requests"

// lieAndServe is the program. It ends when it is killed.
func lieAndServe(encoded string) error {
	// podman stays up while somebody is connected. To come up may take it longer than the driver waits.
	keep, err := net.Dial("unix", podmanSocket)
	if err != nil {
		return err
	}
	defer func() { _ = keep.Close() }()
	l := &liar{
		busy: make(chan struct{}, 2),
		told: map[string]string{},
		real: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", podmanSocket)
			},
		},
	}
	if err := json.Unmarshal([]byte(encoded), &l.victims); err != nil {
		return err
	}
	if err := layTraps(); err != nil {
		return err
	}
	record, err := os.Create(filepath.Join(liarDir, recordFile))
	if err != nil {
		return err
	}
	l.recorded = json.NewEncoder(record)
	failed := make(chan error)
	for _, name := range []string{"too-old", "too-new", "liar"} {
		listener, err := net.Listen("unix", filepath.Join(liarDir, name+".sock"))
		if err != nil {
			return err
		}
		server := &http.Server{Handler: l.handler(name)}
		go func() { failed <- server.Serve(listener) }()
	}
	return <-failed
}

// layTraps makes what the lies about logs name.
func layTraps() error {
	if err := os.Mkdir(liarDir, 0o700); err != nil {
		return err
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(liarDir, "symlink")); err != nil {
		return err
	}
	file := filepath.Join(liarDir, "file")
	if err := os.WriteFile(file, []byte("2026-01-02T03:04:05.678901234+00:00 stdout F a secret\n"), 0o600); err != nil {
		return err
	}
	if err := os.Link(file, filepath.Join(liarDir, "hard-link")); err != nil {
		return err
	}
	return syscall.Mkfifo(filepath.Join(liarDir, "fifo"), 0o600)
}

// handler serves a socket. Lies about podman itself are the socket's.
func (l *liar) handler(socket string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		verb, name := l.about(r, body)
		if strings.HasSuffix(r.URL.Path, "/containers/json") {
			verb = "list"
		}
		if verb == "info" || verb == "list" {
			name = socket
		}
		l.record(r, body)
		told := lies[name]
		if answer := told.answers[verb]; answer != nil {
			answer(w, r)
			return
		}
		if verb == "create" || verb == "start" || r.Method == http.MethodDelete {
			l.busy <- struct{}{}
			defer func() { <-l.busy }()
		}
		(&httputil.ReverseProxy{
			Transport: l.real,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.URL.Scheme, p.Out.URL.Host = "http", "podman"
				p.Out.Host = "podman"
			},
			ModifyResponse: func(answer *http.Response) error { return l.change(verb, name, answer) },
		}).ServeHTTP(w, r)
	})
}

func (l *liar) record(r *http.Request, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.recorded.Encode(recordedRequest{r.Method, r.URL.RequestURI(), r.Header, string(body)}); err != nil {
		panic(err)
	}
}

// about tells what a request asks, and the task whose container it is about. Only the first request about a container
// is by its name.
func (l *liar) about(r *http.Request, body []byte) (verb, task string) {
	verb = path.Base(r.URL.Path)
	elements := strings.Split(r.URL.Path, "/") // "", v4.0.0, libpod, containers, SUBJECT, …
	if len(elements) < 5 {
		return verb, ""
	}
	if verb == "create" {
		var spec struct{ Name string }
		_ = json.Unmarshal(body, &spec)
		const alloc = len("-01234567-89ab-cdef-0123-456789abcdef")
		return verb, spec.Name[:max(0, len(spec.Name)-alloc)]
	}
	if elements[3] == "exec" {
		verb = "exec-" + verb
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return verb, l.told[elements[4]]
}

// change makes a lie of podman's answer, and remembers whose IDs it has given.
func (l *liar) change(verb, task string, answer *http.Response) error {
	if answer.StatusCode/100 != 2 || answer.Header.Get("Content-Type") != "application/json" {
		return nil
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var content map[string]any
	if json.Unmarshal(text, &content) == nil {
		if id, given := content["Id"].(string); given && (verb == "create" || verb == "exec") {
			l.mu.Lock()
			l.told[id] = task
			l.mu.Unlock()
		}
		if change := lies[task].changes[verb]; change != nil {
			change(l.victims, content)
			if text, err = json.Marshal(content); err != nil {
				return err
			}
		}
	}
	answer.Body = io.NopCloser(bytes.NewReader(text))
	answer.ContentLength = int64(len(text))
	answer.Header.Set("Content-Length", fmt.Sprint(len(text)))
	return nil
}
