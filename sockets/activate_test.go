package sockets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/rootless"
)

// fakeHost stands for systemd and podman: podman.socket, once started, makes a service listen.
type fakeHost struct {
	t           *testing.T
	path        string
	fail        map[string]error // by what would be logged
	gate        chan struct{}    // podman.socket starts once it is closed
	manager     string           // state of the user's manager
	managerLoad string           // load state of that; default loaded
	activated   time.Duration    // when that became active, after boot
	stopping    bool             // the host is going down
	logind      string           // state of its unit; default active
	loggedIn    bool             // the user is
	lingers     bool             // so does the user's manager
	containers  bool             // run there
	socket      string           // state of podman.socket; default inactive
	load        string           // load state of that; default loaded
	reset       bool             // podman.socket is active, but its file is not there
	infos       atomic.Int32
	unit        fakeUnit
	mu          sync.Mutex
	log         []string
	stopped     func()
}

func (h *fakeHost) do(what string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, what)
	return h.fail[what]
}

func (h *fakeHost) took() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.log
	h.log = nil
	return log
}

func (h *fakeHost) connect(_ context.Context, u *rootless.User) (manager, error) {
	bus := &fakeBus{host: h, name: "system"}
	if u != nil {
		bus.name = "user"
	}
	return bus, h.do(bus.name + " bus")
}

type fakeBus struct {
	host *fakeHost
	name string
}

func (b *fakeBus) StartUnit(_ context.Context, name string) error {
	if name == socketUnit {
		<-b.host.gate
	}
	if err := b.host.do(b.name + " " + name); err != nil {
		return err
	}
	if name == socketUnit && !b.host.reset {
		b.host.listen()
	}
	return nil
}

func (b *fakeBus) RestartUnit(_ context.Context, name string) error {
	if err := b.host.do(b.name + " again " + name); err != nil {
		return err
	}
	b.host.listen()
	return nil
}

func (b *fakeBus) StopUnit(_ context.Context, name string) error {
	return b.host.do(b.name + " stop " + name)
}

func (b *fakeBus) UnitState(_ context.Context, unit string) (load, active, sub string, err error) {
	if unit == socketUnit {
		return cmp.Or(b.host.load, "loaded"), b.host.socket, "", nil
	}
	if unit == logindUnit {
		return "loaded", cmp.Or(b.host.logind, "active"), "", nil
	}
	return cmp.Or(b.host.managerLoad, "loaded"), b.host.manager, "", nil
}

func (b *fakeBus) DisableLinger(context.Context, uint32) error {
	return b.host.do(b.name + " no linger")
}
func (b *fakeBus) Lingers(context.Context, uint32) bool          { return b.host.lingers }
func (b *fakeBus) Running(context.Context, string) (bool, error) { return b.host.containers, nil }
func (b *fakeBus) LoggedIn(context.Context, uint32) bool         { return b.host.loggedIn }
func (b *fakeBus) EnableLinger(context.Context, uint32) error    { return b.host.do(b.name + " linger") }
func (b *fakeBus) Activated(context.Context, string) (time.Duration, bool, error) {
	return b.host.activated, b.host.manager == "active", b.host.do(b.name + " activated")
}
func (b *fakeBus) Stopping(context.Context) (bool, error) {
	return b.host.stopping, b.host.do(b.name + " stopping")
}
func (b *fakeBus) Close() {}

func (h *fakeHost) listen() {
	h.stopped = serve(h.t, h.path, func(w http.ResponseWriter, r *http.Request) {
		h.infos.Add(1)
		answer(`{"version":{"APIVersion":"5.4.2","Version":"5.4.2"}}`)(w, r)
	}).Close
}

// newFakeHost gives a host with an endpoint for uid's podman, an agent with the UID of this test, and the states that
// the endpoint went through.
func newFakeHost(t *testing.T, uid uint32, o Options) (h *fakeHost, e *Endpoint, states func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sockets")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	h = &fakeHost{t: t, path: filepath.Join(dir, "podman.sock"), fail: map[string]error{}, gate: make(chan struct{})}
	close(h.gate)
	var mu sync.Mutex
	var seen []string
	o.OnChange = func(e *Endpoint) {
		mu.Lock()
		defer mu.Unlock()
		s := e.State()
		seen = append(seen, fmt.Sprint(s.Active, s.Err == nil))
	}
	r, err := New(nil, o)
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, r.Close()) })
	r.connect = h.connect
	r.watchUnit = h.watchUnit
	r.checkIDs = func(rootless.User) error { return h.do("IDs") }
	r.checkHost = func() error { return h.do("host") }
	self := uint32(os.Geteuid())
	e = makeEndpoint(r, "x", h.path, rootless.User{Name: "x", UID: self, GID: self})
	e.managed = true
	if uid != self {
		// The steps are those of another user's podman; the connections stay this user's.
		e.user.UID = uid
		e.client = newClient("host user x", r.options.Timeout, nil)
	}
	return h, e, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(seen) }
}

// A new user's podman is slow to answer the first time, one that is found running is not.
func TestActivateTimeout(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{Timeout: time.Nanosecond})
	_, err := e.Activate(t.Context())
	must.NoError(t, err)

	e.managed = false
	e.setState(func(s *State) { s.Active = false })
	_, err = e.Activate(t.Context())
	must.ErrorContains(t, err, "no answer within 1ns (plugin option client_http_timeout)")
	must.Eq(t, 1, h.infos.Load())
}

// podman system reset removes the file of a socket that stays active.
func TestActivateAfterReset(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{})
	h.reset = true
	_, err := e.Activate(t.Context())
	must.NoError(t, err)
	must.Eq(t, []string{"system bus", "system podman.socket", "system again podman.socket"}, h.took())
}

func TestActivateRoot(t *testing.T) {
	needRoot(t)
	h, e, states := newFakeHost(t, 0, Options{})
	client, err := e.Activate(t.Context())
	must.NoError(t, err)
	must.Eq(t, e.Client(), client)
	must.Eq(t, []string{"system bus", "system podman.socket"}, h.took())
	must.Eq(t, "5.4.2", e.State().Info.Version)

	// Active already: no unit is started and podman is not asked.
	_, err = e.Activate(t.Context())
	must.NoError(t, err)
	must.SliceEmpty(t, h.took())
	must.Eq(t, 1, h.infos.Load())

	// Stopped in between, and nobody noticed.
	h.stopped()
	must.True(t, e.State().Active)
	_, err = e.Activate(t.Context())
	must.NoError(t, err)
	must.Eq(t, []string{"system bus", "system podman.socket"}, h.took())
	must.Eq(t, []string{"true true", "false false", "true true"}, states())

	// Stopped, and a request noticed.
	h.stopped()
	_, err = e.Client().Info(t.Context())
	must.Error(t, err)
	must.False(t, e.State().Active)
	must.Eq(t, "5.4.2", e.State().Info.Version, must.Sprint("the last one seen stays"))
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose endpoint it is")
	}
}

func TestActivateUser(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 65534, Options{Linger: true})
	err := e.startSocket(t.Context())
	must.NoError(t, err)
	must.Eq(t, []string{"IDs", "system bus", "system linger", "system user@65534.service", "user bus", "user podman.socket"}, h.took())

	h, e, _ = newFakeHost(t, 65534, Options{})
	must.NoError(t, e.startSocket(t.Context()))
	must.Eq(t, []string{"IDs", "system bus", "system user@65534.service", "user bus", "user podman.socket"}, h.took())
}

// A manager that was killed has left a runtime directory that podman cannot start with.
func TestActivateAfterKill(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 65534, Options{})
	h.manager = "failed"
	must.NoError(t, e.startSocket(t.Context()))
	must.Eq(t, []string{"IDs", "system bus", "system stop user-runtime-dir@65534.service", "system user@65534.service", "user bus", "user podman.socket"}, h.took())

	h, e, _ = newFakeHost(t, 65534, Options{})
	h.manager, h.loggedIn = "failed", true
	must.NoError(t, e.startSocket(t.Context()))
	must.SliceNotContains(t, h.took(), "system stop user-runtime-dir@65534.service")
}

func TestActivateAsAgentWithoutRoot(t *testing.T) {
	h, e, _ := newFakeHost(t, 1000, Options{Linger: true})
	e.registry.agent = 1000
	h.fail["system linger"] = errors.New("not allowed")
	must.NoError(t, e.startSocket(t.Context()))
	must.Eq(t, []string{"IDs", "system bus", "system linger", "user bus", "user podman.socket"}, h.took())

	h.fail["user bus"] = os.ErrNotExist
	must.ErrorContains(t, e.startSocket(t.Context()), "loginctl enable-linger x")
}

func TestOnlyRootUsesOthersPodman(t *testing.T) {
	const refusal = "which can use no other user's podman"
	dir := t.TempDir()
	x := rootless.User{Name: "x", UID: 70001}
	serve(t, filepath.Join(dir, "mine.sock"), answer("{}"))
	r, err := New([]EndpointConfig{
		{Name: "other", User: &x},
		{Name: "root", Path: "/run/podman/podman.sock"},
		{Name: "path of other", Path: "/run/x.sock", User: &x},
		{Name: "found", Path: filepath.Join(dir, "mine.sock")},
		{Name: "late", Path: filepath.Join(dir, "late.sock")},
	}, Options{})
	must.NoError(t, err)
	r.agent = uint32(os.Geteuid()) + 1
	r.connect = func(context.Context, *rootless.User) (manager, error) {
		t.Error("systemd was asked")
		return nil, os.ErrPermission
	}
	for _, e := range r.Endpoints() {
		if e.Name() == "late" {
			// Whose it is shows when it is there.
			must.NoError(t, e.CheckActivatable(t.Context()))
			serve(t, e.Path(), answer("{}"))
		} else {
			must.ErrorContains(t, e.CheckActivatable(t.Context()), refusal)
		}
		_, err := e.Activate(t.Context())
		must.ErrorContains(t, err, refusal)
		must.ErrorContains(t, e.CheckActivatable(t.Context()), refusal)
	}
}

func TestActivateFailures(t *testing.T) {
	for step, test := range map[string]struct {
		err  error
		want string
	}{
		"IDs":                       {errors.New("too few"), "too few"},
		"system linger":             {errors.New("no"), "rootless { linger = false }"},
		"system user@65534.service": {errors.New("no"), "no"},
		"user bus":                  {os.ErrNotExist, "dbus-user-session"},
		"user podman.socket":        {ErrUnitNotFound, installPodman().String()},
	} {
		h, e, states := newFakeHost(t, 65534, Options{Linger: true})
		e.registry.agent = 0
		h.fail[step] = test.err
		_, err := e.Activate(t.Context())
		must.ErrorIs(t, err, test.err)
		must.ErrorContains(t, err, test.want)
		must.StrHasPrefix(t, "activating podman of host user x: ", err.Error())
		must.Eq(t, err.Error(), e.State().Err.Error())
		must.Eq(t, []string{"false false"}, states())
		must.Eq(t, step, h.log[len(h.log)-1])
	}
	h, e, _ := newFakeHost(t, 65534, Options{})
	e.registry.agent = 0
	h.fail["user podman.socket"] = ErrUnitMasked
	_, err := e.Activate(t.Context())
	must.ErrorContains(t, err, "systemctl --user --machine=x@ unmask podman.socket")
}

// Where limits cannot hold for rootless containers, nothing is started for one.
func TestNoRootlessHost(t *testing.T) {
	unfit := errors.New("cgroup v1")
	h, e, _ := newFakeHost(t, 65534, Options{})
	e.registry.agent = 0
	h.fail["host"] = unfit
	must.ErrorIs(t, e.CheckActivatable(t.Context()), unfit)
	must.Eq(t, []string{"host"}, h.took())

	h, e, _ = newFakeHost(t, 0, Options{})
	e.registry.agent = 0
	h.fail["host"] = unfit
	_ = e.CheckActivatable(t.Context()) // whether this machine has a podman.socket does not matter
	must.SliceEmpty(t, h.took())
}

func TestActivateIsShared(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{})
	h.gate = make(chan struct{})
	results := make(chan error)
	for range 10 {
		go func() { _, err := e.Activate(t.Context()); results <- err }()
	}
	// A caller that gives up leaves the others alone.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Activate(ctx)
	must.ErrorIs(t, err, context.Canceled)
	close(h.gate)
	for range 10 {
		must.NoError(t, <-results)
	}
	must.Eq(t, 1, strings.Count(strings.Join(h.took(), "\n"), socketUnit))
	must.Eq(t, 1, h.infos.Load())
}

func TestCloseEndsActivations(t *testing.T) {
	needRoot(t)
	_, e, _ := newFakeHost(t, 0, Options{})
	began := make(chan struct{})
	e.registry.connect = func(ctx context.Context, _ *rootless.User) (manager, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	result := make(chan error)
	go func() { _, err := e.Activate(t.Context()); result <- err }()
	<-began
	must.NoError(t, e.registry.Close())
	must.ErrorIs(t, <-result, context.Canceled)
	_, err := e.Activate(t.Context())
	must.ErrorContains(t, err, "shutting down")
}

func TestRegistry(t *testing.T) {
	x, y := rootless.User{Name: "x", UID: 70001}, rootless.User{Name: "y", UID: 70002}
	r, err := New([]EndpointConfig{
		{Name: "b", User: &x},
		{Name: "a", Path: "/run/podman/podman.sock"},
		{Name: "c", Path: "/elsewhere/../nowhere"},
		{Name: "d", Path: "/of/y", User: &y},
	}, Options{})
	must.NoError(t, err)
	r.agent = 0
	names := ""
	for _, e := range r.Endpoints() {
		names += e.Name()
	}
	must.Eq(t, "bacd", names)

	b, ok := r.Endpoint("b")
	must.True(t, ok)
	must.Eq(t, "/run/user/70001/podman/podman.sock", b.Path())
	must.True(t, b.Rootless())
	must.True(t, r.ForUser(x) == b)
	onDemand := r.ForUser(y)
	must.True(t, r.ForUser(y) == onDemand)
	must.Eq(t, "/run/user/70002/podman/podman.sock", onDemand.Path())

	a, _ := r.Endpoint("a")
	must.False(t, a.Rootless())
	c, _ := r.Endpoint("c")
	must.Eq(t, "/nowhere", c.Path())
	must.Eq(t, rootless.Unknown, c.User())
	must.True(t, c.Rootless())
	_, err = c.Activate(t.Context())
	must.ErrorIs(t, err, os.ErrNotExist)
	must.ErrorContains(t, err, "podman of /nowhere")
	must.NoError(t, c.CheckActivatable(t.Context()))
	_, ok = r.Endpoint("z")
	must.False(t, ok)

	for want, configs := range map[string][]EndpointConfig{
		`socket "b" is configured twice`:   {{Name: "b", User: &x}, {Name: "b", User: &y}},
		`socket "b": path "sock"`:          {{Name: "b", Path: "sock"}},
		`socket "b": neither a path nor a`: {{Name: "b"}},
	} {
		_, err := New(configs, Options{})
		must.ErrorContains(t, err, want)
	}
}

func TestOwnerOfPath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "podman.sock")
	serve(t, path, answer("{}"))
	must.NoError(t, os.Symlink(path, filepath.Join(dir, "link")))
	user, err := ownerOf(path)
	must.NoError(t, err)
	must.Eq(t, uint32(os.Geteuid()), user.UID)
	must.NoError(t, os.Symlink(dir, filepath.Join(dir, "dir")))
	for _, link := range []string{"link", "dir/podman.sock"} {
		_, err = ownerOf(filepath.Join(dir, link))
		must.ErrorContains(t, err, "leads over a symbolic link")
	}
	_, err = ownerOf(dir)
	must.ErrorContains(t, err, "not a socket")
	_, err = ownerOf(filepath.Join(dir, "none"))
	must.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFindUnitFile(t *testing.T) {
	_, e, _ := newFakeHost(t, 0, Options{})
	first, second := t.TempDir(), t.TempDir()
	dirs := []string{first, second}
	must.ErrorIs(t, e.findUnitFile(dirs).Err(), ErrUnitNotFound)
	must.NoError(t, os.WriteFile(filepath.Join(second, socketUnit), []byte("[Socket]"), 0o644))
	must.NoError(t, e.findUnitFile(dirs).Err())
	must.NoError(t, os.Symlink("/dev/null", filepath.Join(first, socketUnit)))
	err := e.findUnitFile(dirs).Err()
	must.ErrorIs(t, err, ErrUnitMasked)
	must.ErrorContains(t, err, "as root, run: systemctl ")
}

func TestUnmask(t *testing.T) {
	_, e, _ := newFakeHost(t, 2001, Options{})
	e.user.UID, e.user.Home = 2001, "/home/x"
	for path, want := range map[string]string{
		"": "systemctl --user --machine=x@ unmask podman.socket",
		"/home/x/.config/systemd/user/podman.socket": "systemctl --user --machine=x@ unmask podman.socket",
		"/run/user/2001/systemd/user/podman.socket":  "systemctl --user --machine=x@ --runtime unmask podman.socket",
		"/etc/systemd/user/podman.socket":            "systemctl --global unmask podman.socket",
		"/run/systemd/user/podman.socket":            "systemctl --global --runtime unmask podman.socket",
	} {
		must.Eq(t, []string{want}, e.unmask(path).Commands)
	}
	e.user.UID = 0
	for path, want := range map[string]string{
		"":                                  "systemctl unmask podman.socket",
		"/etc/systemd/system/podman.socket": "systemctl unmask podman.socket",
		"/run/systemd/system/podman.socket": "systemctl --runtime unmask podman.socket",
	} {
		must.Eq(t, []string{want}, e.unmask(path).Commands)
	}
	must.False(t, e.unmask("").Safe)
}

func TestManagerRuns(t *testing.T) {
	const started = time.Hour
	for name, test := range map[string]struct {
		uid       uint32
		manager   string
		activated time.Duration
		stopping  bool
		want      bool
	}{
		"since before":       {uid: 70001, manager: "active", activated: time.Minute, want: true},
		"started again":      {uid: 70001, manager: "active", activated: 2 * time.Hour},
		"ending":             {uid: 70001, manager: "deactivating", activated: time.Minute},
		"rootful":            {want: true},
		"the host goes down": {stopping: true},
	} {
		t.Run(name, func(t *testing.T) {
			h, e, _ := newFakeHost(t, test.uid, Options{})
			h.manager, h.activated, h.stopping = test.manager, test.activated, test.stopping
			runs, err := e.ManagerRuns(t.Context(), started)
			must.NoError(t, err)
			must.Eq(t, test.want, runs)
		})
	}
}
