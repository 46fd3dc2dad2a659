package sockets

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// one is the only finding with an ID.
func one(t *testing.T, found []finding.Finding, id string) finding.Finding {
	t.Helper()
	found = slices.DeleteFunc(slices.Clone(found), func(f finding.Finding) bool { return f.ID != id })
	must.Len(t, 1, found, must.Sprint(id))
	return found[0]
}

func TestFindUser(t *testing.T) {
	for name, test := range map[string]struct {
		options  Options
		agent    uint32
		host     func(*fakeHost)
		id       string
		want     finding.Status
		seen     string
		commands []string
		safe     bool
	}{
		"manager runs":             {id: "manager", want: finding.OK, seen: "user@65534.service is active"},
		"manager does not run":     {host: func(h *fakeHost) { h.manager = "inactive" }, id: "manager", want: finding.OK, seen: "started when a task needs it"},
		"an agent without root":    {agent: 65534, host: func(h *fakeHost) { h.manager = "inactive" }, id: "manager", want: finding.Fail, commands: []string{"loginctl enable-linger x"}, safe: true},
		"manager has failed":       {host: func(h *fakeHost) { h.manager = "failed" }, id: "manager", want: finding.Warn, commands: []string{"systemctl stop user-runtime-dir@65534.service", "systemctl start user@65534.service"}, safe: true},
		"failed while logged in":   {host: func(h *fakeHost) { h.manager, h.loggedIn = "failed", true }, id: "manager", want: finding.Warn, commands: []string{"systemctl start user@65534.service"}, safe: true},
		"manager is masked":        {host: func(h *fakeHost) { h.manager, h.managerLoad = "inactive", "masked" }, id: "manager", want: finding.Fail, commands: []string{"systemctl unmask user@65534.service"}},
		"no systemd":               {host: func(h *fakeHost) { h.fail["system bus"] = errors.New("no bus") }, id: "manager", want: finding.Skipped},
		"lingers":                  {options: Options{Linger: true}, host: func(h *fakeHost) { h.lingers = true }, id: "lingering", want: finding.OK},
		"does not linger":          {options: Options{Linger: true}, id: "lingering", want: finding.Warn, seen: "off", commands: []string{"loginctl enable-linger x"}, safe: true},
		"need not linger":          {id: "lingering", want: finding.OK, seen: "configuration"},
		"lingers on demand":        {options: Options{Linger: true, ReleaseAfter: 1}, id: "lingering", want: finding.OK, seen: "as long as"},
		"no logind":                {options: Options{Linger: true}, host: func(h *fakeHost) { h.logind = "failed" }, id: "lingering", want: finding.Skipped},
		"socket":                   {id: "podman-socket", want: finding.OK, seen: "podman.socket is active"},
		"socket does not listen":   {host: func(h *fakeHost) { h.socket = "inactive" }, id: "podman-socket", want: finding.OK, seen: "is inactive; it is started"},
		"masked, systemd says":     {host: func(h *fakeHost) { h.load = "masked" }, id: "podman-socket", want: finding.Fail, seen: "is masked", commands: []string{"systemctl --user --machine=x@ unmask podman.socket"}},
		"the user's IDs":           {host: func(h *fakeHost) { h.fail["IDs"] = errors.New("too few; do this") }, id: "podman-socket", want: finding.Fail, seen: "too few; do this"},
		"the host's cgroups":       {host: func(h *fakeHost) { h.fail["host"] = errors.New("cgroup v1") }, id: "podman-socket", want: finding.Fail, seen: "cgroup v1"},
		"no bus of the user":       {host: func(h *fakeHost) { h.fail["user bus"] = os.ErrNotExist }, id: "podman-socket", want: finding.Fail, commands: finding.Install("dbus-user-session", "dbus-broker").Commands},
		"nobody to ask":            {host: func(h *fakeHost) { h.socket = "inactive" }, id: "api", want: finding.Skipped, seen: "podman is asked when it is"},
		"no podman, no storage":    {host: func(h *fakeHost) { h.socket = "inactive" }, id: "storage", want: finding.Skipped},
		"the manager's podman":     {host: func(h *fakeHost) { h.manager = "inactive" }, id: "api", want: finding.Skipped},
		"podman does not answer":   {id: "api", want: finding.Fail, seen: "asking for its version"},
		"no answer, no database":   {id: "database", want: finding.Skipped, seen: "does not answer"},
		"somebody else's, no root": {agent: 7, id: "podman-socket", want: finding.Fail, seen: "run the agent as root"},
	} {
		t.Run(name, func(t *testing.T) {
			needRoot(t)
			h, e, _ := newFakeHost(t, 0, test.options)
			e.user.UID, e.user.GID = 65534, 65534
			e.registry.agent = test.agent
			h.manager, h.socket = "active", "active"
			if test.host != nil {
				test.host(h)
			}
			found := e.Find(t.Context())
			f := one(t, found, test.id)
			must.EqOp(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			must.Eq(t, test.commands, f.Remedy.Commands)
			must.EqOp(t, test.safe, f.Remedy.Safe)
			must.EqOp(t, test.want == finding.Warn || test.want == finding.Fail, f.Why != "")
			for _, f := range found {
				must.EqOp(t, "x", f.Subject)
			}
			for _, did := range h.took() {
				must.SliceContains(t, []string{"IDs", "host", "system bus", "user bus"}, did, must.Sprint("nothing is started"))
			}
		})
	}
}

// A mask in the user's own directory shows also while the manager does not run.
func TestFindOwnMask(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 65534, Options{})
	home := filepath.Dir(h.path)
	must.NoError(t, os.Chmod(home, 0o755))
	e.user.Home, h.manager = home, "inactive"
	dir := filepath.Join(home, ".config/systemd/user")
	must.NoError(t, os.MkdirAll(dir, 0o755))
	must.NoError(t, os.Symlink("/dev/null", filepath.Join(dir, socketUnit)))
	f := one(t, e.Find(t.Context()), "podman-socket")
	must.ErrorIs(t, f.Err(), ErrUnitMasked)
	must.EqOp(t, filepath.Join(dir, socketUnit)+" is masked", f.Seen)
	must.Eq(t, []string{"systemctl --user --machine=x@ unmask podman.socket"}, f.Remedy.Commands)

	// A mask for all users, which a manager that runs has to be told of when it is gone.
	global := userUnits
	t.Cleanup(func() { userUnits = global })
	userUnits, e.user.Home, h.manager = []string{dir}, "/nowhere", "active"
	f = one(t, e.Find(t.Context()), "podman-socket")
	must.Eq(t, []string{"systemctl --global unmask podman.socket", "systemctl --user --machine=x@ daemon-reload"}, f.Remedy.Commands)
	userUnits, e.user.Home, h.manager = global, home, "inactive"

	// One that is no mask.
	must.NoError(t, os.Remove(filepath.Join(dir, socketUnit)))
	must.NoError(t, os.WriteFile(filepath.Join(dir, socketUnit), []byte("[Socket]"), 0o644))
	f = one(t, e.Find(t.Context()), "podman-socket")
	must.EqOp(t, finding.OK, f.Status)
	must.StrContains(t, f.Seen, "it is started when a task needs it")
}

// answers is a podman that says this about itself, and has what is listed.
func answers(info string, lists map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch kind := strings.TrimSuffix(strings.Trim(r.URL.Path, "/"), "/json"); kind {
		case "info":
			_, _ = io.WriteString(w, info)
		case "networks":
			_, _ = io.WriteString(w, `[{}]`)
		default:
			if list, found := lists[kind]; found {
				_, _ = io.WriteString(w, list)
				return
			}
			_, _ = io.WriteString(w, `[]`)
		}
	}
}

const infoFormat = `{"version":{"APIVersion":"5.4.2","Version":%q},"store":{"graphDriverName":%q},"host":{"databaseBackend":%q,"cgroupManager":"systemd","networkBackend":"netavark","ociRuntime":{"name":"crun"}}}`

func TestFindPodman(t *testing.T) {
	for name, test := range map[string]struct {
		version, storage, database string
		lists                      map[string]string
		id                         string
		want                       finding.Status
		seen, advice               string
		safe                       bool
	}{
		"answers":          {id: "api", want: finding.OK, seen: "podman 5.4.2 answers; it has the OCI runtime crun, the cgroup manager systemd and networks of netavark"},
		"overlay":          {id: "storage", want: finding.OK, seen: "overlay"},
		"vfs":              {storage: "vfs", id: "storage", want: finding.Warn, seen: "vfs", safe: true},
		"vfs with images":  {storage: "vfs", lists: map[string]string{"images": "[{}]"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs with secrets": {storage: "vfs", lists: map[string]string{"secrets": "[{}]"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs, no answer":   {storage: "vfs", lists: map[string]string{"volumes": "?"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"sqlite":           {id: "database", want: finding.OK, seen: "sqlite"},
		"does not say":     {database: "-", id: "database", want: finding.Skipped},
		"boltdb":           {database: "boltdb", id: "database", want: finding.Warn, seen: "BoltDB", advice: "upgrade podman to 5.8.1"},
		"boltdb in 5.8":    {version: "5.8.2", database: "boltdb", id: "database", want: finding.Warn, advice: "--migrate-db"},
	} {
		t.Run(name, func(t *testing.T) {
			needRoot(t)
			h, e, _ := newFakeHost(t, 0, Options{})
			must.NoError(t, os.Chmod(filepath.Dir(h.path), 0o755))
			e.user.UID, e.user.GID = 65534, 65534
			orElse := func(text, otherwise string) string {
				if text == "" {
					return otherwise
				}
				return strings.Trim(text, "-")
			}
			serve(t, e.path, answers(fmt.Sprintf(infoFormat, orElse(test.version, "5.4.2"), orElse(test.storage, "overlay"), orElse(test.database, "sqlite")), test.lists))
			must.NoError(t, os.Chmod(e.path, 0o777))
			f := one(t, e.findPodman(t.Context()), test.id)
			must.EqOp(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			must.StrContains(t, f.Remedy.Advice, test.advice)
			must.EqOp(t, test.safe, f.Remedy.Safe)
			must.EqOp(t, test.safe, len(f.Remedy.Commands) > 0)
		})
	}
}

// What a host user's podman says is short and plain.
func TestFindPodmanOfLiar(t *testing.T) {
	_, e, _ := newFakeHost(t, uint32(os.Geteuid()), Options{})
	long := strings.Repeat("x", 1000) + "\u001b[31m"
	serve(t, e.path, answers(fmt.Sprintf(infoFormat, long, long, long), nil))
	for _, f := range e.findPodman(t.Context()) {
		must.Less(t, 1000, len(f.Seen))
		must.StrNotContains(t, f.Seen, "\x1b")
	}
}

// The commands that give a user another storage driver keep what else the user's file says.
func TestToOverlay(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{})
	home := filepath.Dir(h.path)
	must.NoError(t, os.Chmod(home, 0o755))
	serve(t, e.path, answers("", nil))
	must.NoError(t, os.Chmod(e.path, 0o777))
	e.user.UID, e.user.GID, e.user.Home = 65534, 65534, home
	machine := "--machine=x@"
	begin := []string{
		"systemctl --user " + machine + " stop podman.socket podman.service",
		"systemd-run --user " + machine + " --wait --quiet --collect podman system reset --force",
	}
	end := "systemctl --user " + machine + " start podman.socket"
	file := home + "/.config/containers/storage.conf"
	commands := e.toOverlay(t.Context()).Commands
	must.Eq(t, slices.Concat(begin, []string{
		"runuser -u x -- mkdir -p " + home + "/.config/containers",
		`printf '[storage]\ndriver = "overlay"\n' | runuser -u x -- tee ` + file + " >/dev/null",
		end,
	}), commands)

	must.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must.NoError(t, os.WriteFile(file, []byte("[storage]\n  driver=\"vfs\"\nrunroot = \"/driver = x\"\n"), 0o644))
	commands = e.toOverlay(t.Context()).Commands
	must.Len(t, 4, commands)
	edit, found := strings.CutPrefix(commands[2], "runuser -u x -- ")
	must.True(t, found)
	must.NoError(t, exec.Command("sh", "-c", edit).Run())
	text, err := os.ReadFile(file)
	must.NoError(t, err)
	must.EqOp(t, "[storage]\n  driver= \"overlay\"\nrunroot = \"/driver = x\"\n", string(text))

	for _, nobody := range []func(){
		func() { e.registry.agent = 1 },
		func() { e.registry.agent, e.managed = 0, false },
	} {
		nobody()
		must.SliceEmpty(t, e.toOverlay(t.Context()).Commands)
	}
}

func TestFindConfigured(t *testing.T) {
	dir := t.TempDir()
	self := uint32(os.Geteuid())
	r, err := New([]EndpointConfig{{Name: "s", Path: filepath.Join(dir, "s.sock")}}, Options{})
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, r.Close()) })
	e, _ := r.Endpoint("s")
	r.checkHost = func() error { return nil }
	found := e.Find(t.Context())
	must.Len(t, 1, found)
	must.EqOp(t, finding.Fail, found[0].Status)
	must.ErrorIs(t, found[0].Err(), fs.ErrNotExist)
	must.StrContains(t, found[0].Remedy.Advice, "host_user")

	serve(t, e.path, answers(fmt.Sprintf(infoFormat, "5.4.2", "vfs", "sqlite"), nil))
	found = e.Find(t.Context())
	must.EqOp(t, finding.OK, one(t, found, "socket").Status)
	must.EqOp(t, finding.OK, one(t, found, "api").Status)
	must.EqOp(t, finding.Warn, one(t, found, "storage").Status)
	for _, f := range found {
		must.EqOp(t, "s", f.Subject)
	}
	must.EqOp(t, self == 0, slices.ContainsFunc(found, func(f finding.Finding) bool { return f.ID == "socket-access" }))

	r.agent = self + 1
	e.user = rootless.Unknown // as before the first connection
	found = e.Find(t.Context())
	must.Len(t, 1, found)
	must.EqOp(t, finding.Fail, found[0].Status)
	must.StrContains(t, found[0].Seen, "run the agent as root")
}

func TestFindAccess(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{})
	dir := filepath.Dir(h.path)
	must.EqOp(t, finding.Skipped, e.findAccess().Status)
	serve(t, e.path, answers("", nil))
	for _, test := range []struct {
		dir, socket     os.FileMode
		dirGroup, group int
		want            finding.Status
		seen            string
	}{
		{0o755, 0o660, 0, 0, finding.OK, "only root"},
		{0o755, 0o666, 0, 0, finding.Fail, "everybody can connect to " + h.path + " (mode 0666)"},
		{0o700, 0o666, 0, 0, finding.OK, ""},
		{0o755, 0o660, 0, 4711, finding.Warn, "group 4711 can connect"},
		{0o755, 0o640, 0, 4711, finding.OK, ""},
		{0o750, 0o660, 0, 4711, finding.OK, ""},
		{0o750, 0o660, 4711, 4711, finding.Warn, "group 4711"},
		{0o750, 0o666, 4711, 4711, finding.Warn, "group 4711"},
	} {
		must.NoError(t, os.Chown(dir, 0, test.dirGroup))
		must.NoError(t, os.Chmod(dir, test.dir))
		must.NoError(t, os.Chown(h.path, 0, test.group))
		must.NoError(t, os.Chmod(h.path, test.socket))
		f := e.findAccess()
		must.EqOp(t, test.want, f.Status, must.Sprint(test))
		must.StrContains(t, f.Seen, test.seen)
		must.EqOp(t, "x", f.Subject)
		if f.Status != finding.OK {
			must.False(t, f.Remedy.Safe)
			must.Eq(t, []string{
				"mkdir -p /etc/systemd/system/podman.socket.d",
				`printf '[Socket]\nSocketMode=0600\nSocketUser=root\nSocketGroup=root\n' >>/etc/systemd/system/podman.socket.d/zz-nomad-driver-podman.conf`,
				"systemctl daemon-reload",
				"chmod 0600 " + h.path,
				"chown root:root " + h.path,
			}, f.Remedy.Commands)
		}
	}
}
