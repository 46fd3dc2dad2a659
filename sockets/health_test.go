package sockets

import (
	"context"
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
	"time"

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
		"an agent without root":    {agent: 65534, host: func(h *fakeHost) { h.manager = "inactive" }, id: "manager", want: finding.Fail, commands: []string{"loginctl enable-linger x", "systemctl start user@65534.service"}, safe: true},
		"manager has failed":       {host: func(h *fakeHost) { h.manager = "failed" }, id: "manager", want: finding.Warn, commands: []string{"if systemctl is-failed --quiet user@65534.service && sessions=$(loginctl show-user --property=Sessions --value x) && test -z \"$sessions\"; then systemctl stop user-runtime-dir@65534.service; fi", "systemctl start user@65534.service"}, safe: true},
		"failed while logged in":   {host: func(h *fakeHost) { h.manager, h.loggedIn = "failed", true }, id: "manager", want: finding.Warn, commands: []string{"systemctl start user@65534.service"}, safe: true},
		"manager is masked":        {host: func(h *fakeHost) { h.manager, h.managerLoad = "inactive", "masked" }, id: "manager", want: finding.Fail, commands: []string{"systemctl unmask user@65534.service"}},
		"no systemd":               {host: func(h *fakeHost) { h.fail["system bus"] = errors.New("no bus") }, id: "manager", want: finding.Skipped},
		"lingers":                  {options: Options{Linger: true}, host: func(h *fakeHost) { h.lingers = true }, id: "lingering", want: finding.OK},
		"does not linger":          {options: Options{Linger: true}, id: "lingering", want: finding.Warn, seen: "off", commands: []string{"loginctl enable-linger x", "systemctl start user@65534.service"}, safe: true},
		"need not linger":          {id: "lingering", want: finding.OK, seen: "configuration"},
		"lingers on demand":        {options: Options{Linger: true, ReleaseAfter: 1}, id: "lingering", want: finding.OK, seen: "as long as"},
		"no logind":                {options: Options{Linger: true}, host: func(h *fakeHost) { h.logind = "failed" }, id: "lingering", want: finding.Skipped},
		"socket":                   {id: "podman-socket", want: finding.OK, seen: "podman.socket is active"},
		"socket does not listen":   {host: func(h *fakeHost) { h.socket = "inactive" }, id: "podman-socket", want: finding.OK, seen: "is inactive; it is started"},
		"masked, systemd says":     {host: func(h *fakeHost) { h.load = "masked" }, id: "podman-socket", want: finding.Fail, seen: "is masked", commands: []string{"systemctl --user --machine=x@ unmask podman.socket"}},
		"the user's IDs":           {host: func(h *fakeHost) { h.fail["IDs"] = errors.New("too few; do this") }, id: "podman-socket", want: finding.Skipped, seen: "see subordinate-ids"},
		"no IDs, no podman":        {host: func(h *fakeHost) { h.fail["IDs"] = errors.New("too few") }, id: "api", want: finding.Skipped, seen: "see subordinate-ids"},
		"the host's cgroups":       {host: func(h *fakeHost) { h.fail["host"] = errors.New("cgroup v1") }, id: "podman-socket", want: finding.Skipped, seen: "see cgroup-mode"},
		"the user's bus hangs":     {host: func(h *fakeHost) { h.fail["user bus"] = context.DeadlineExceeded }, id: "podman-socket", want: finding.Warn, seen: "cannot be told"},
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

const infoFormat = `{"version":{"APIVersion":"5.4.2","Version":%q},"store":{"graphDriverName":%q,"graphRoot":%q,"runRoot":%q},"host":{"databaseBackend":%q,"cgroupManager":"systemd","networkBackend":"netavark","ociRuntime":{"name":"crun"}}}`

func TestFindPodman(t *testing.T) {
	for name, test := range map[string]struct {
		version, storage, database string
		root, run                  string
		systems                    bool // the user has no storage.conf
		lists                      map[string]string
		id                         string
		want                       finding.Status
		seen, advice               string
		safe                       bool
	}{
		"answers":           {id: "api", want: finding.OK, seen: "podman 5.4.2 answers; it has the OCI runtime crun, the cgroup manager systemd and networks of netavark"},
		"overlay":           {id: "storage", want: finding.OK, seen: "overlay"},
		"vfs":               {storage: "vfs", id: "storage", want: finding.Warn, seen: "vfs", safe: true},
		"vfs of the system": {storage: "vfs", systems: true, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs, place chosen": {storage: "vfs", root: "/srv/x", id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs, state chosen": {storage: "vfs", run: "/srv/x", id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs with pods":     {storage: "vfs", lists: map[string]string{"pods": "[{}]"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs with images":   {storage: "vfs", lists: map[string]string{"images": "[{}]"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs with secrets":  {storage: "vfs", lists: map[string]string{"secrets": "[{}]"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"vfs, no answer":    {storage: "vfs", lists: map[string]string{"volumes": "?"}, id: "storage", want: finding.Warn, advice: "podman system reset"},
		"sqlite":            {id: "database", want: finding.OK, seen: "sqlite"},
		"does not say":      {database: "-", id: "database", want: finding.Skipped},
		"boltdb":            {database: "boltdb", id: "database", want: finding.Warn, seen: "BoltDB", advice: "upgrade podman to 5.8.1"},
		"boltdb in 5.8":     {version: "5.8.2", database: "boltdb", id: "database", want: finding.Warn, advice: "--migrate-db"},
	} {
		t.Run(name, func(t *testing.T) {
			needRoot(t)
			h, e, _ := newFakeHost(t, 0, Options{})
			must.NoError(t, os.Chmod(filepath.Dir(h.path), 0o755))
			e.user.UID, e.user.GID, e.user.Home = 65534, 65534, vfsHome(t)
			if test.systems {
				must.NoError(t, os.RemoveAll(e.user.Home))
			}
			orElse := func(text, otherwise string) string {
				if text == "" {
					return otherwise
				}
				return strings.Trim(text, "-")
			}
			serve(t, e.path, answers(fmt.Sprintf(infoFormat, orElse(test.version, "5.4.2"), orElse(test.storage, "overlay"), orElse(test.root, e.user.Home+"/.local/share/containers/storage"),
				orElse(test.run, "/run/user/65534/containers"), orElse(test.database, "sqlite")), test.lists))
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
	serve(t, e.path, answers(fmt.Sprintf(infoFormat, long, long, long, long, long), nil))
	for _, f := range e.findPodman(t.Context()) {
		must.Less(t, 1000, len(f.Seen))
		must.StrNotContains(t, f.Seen, "\x1b")
	}
}

// What does not answer in time is not known, and the caller says how long that is.
func TestFindSlowPodman(t *testing.T) {
	_, e, _ := newFakeHost(t, uint32(os.Geteuid()), Options{})
	serve(t, e.path, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tooLong := fmt.Errorf("too long: %w", context.DeadlineExceeded)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, tooLong)
	defer cancel()
	found := e.findPodman(ctx)
	api := one(t, found, "api")
	must.EqOp(t, finding.Warn, api.Status)
	must.StrContains(t, api.Seen, "cannot be told")
	must.ErrorIs(t, api.Cause, tooLong)
	must.EqOp(t, finding.Skipped, one(t, found, "storage").Status)

	// The time that the configuration gives podman is not for the first answer of a new user's.
	_, e, _ = newFakeHost(t, uint32(os.Geteuid()), Options{Timeout: time.Nanosecond})
	serve(t, e.path, answers(fmt.Sprintf(infoFormat, "5.4.2", "overlay", "", "", "sqlite"), nil))
	must.EqOp(t, finding.OK, one(t, e.findPodman(t.Context()), "api").Status)
}

// vfsHome is the home directory of a user who has chosen vfs.
func vfsHome(t *testing.T) string {
	t.Helper()
	home, err := os.MkdirTemp("", "home") // t.TempDir is closed to the user
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(home)) })
	config := filepath.Join(home, ".config/containers")
	must.NoError(t, os.MkdirAll(config, 0o755))
	must.NoError(t, os.Chmod(home, 0o755))
	must.NoError(t, os.WriteFile(filepath.Join(config, "storage.conf"), []byte("[storage]\ndriver = \"vfs\"\n"), 0o644))
	return home
}

func TestToOverlay(t *testing.T) {
	needRoot(t)
	h, e, _ := newFakeHost(t, 0, Options{})
	must.NoError(t, os.Chmod(filepath.Dir(h.path), 0o755))
	serve(t, e.path, answers("", nil))
	must.NoError(t, os.Chmod(e.path, 0o777))
	e.user.UID, e.user.GID, e.user.Home = 65534, 65534, vfsHome(t)
	info := Info{StorageDriver: "vfs", GraphRoot: e.user.Home + "/.local/share/containers/storage", RunRoot: "/run/user/65534/containers"}
	remedy := e.toOverlay(t.Context(), info)
	must.True(t, remedy.Safe)
	must.Len(t, 1, remedy.Commands)
	must.StrHasPrefix(t, "systemd-run --user --machine=x@ --wait --collect sh -c ", remedy.Commands[0])
	must.StrNotContains(t, remedy.Commands[0], "reset")

	for _, nobody := range []func(){
		func() { e.registry.agent = 1 },
		func() { e.registry.agent, e.managed = 0, false },
	} {
		nobody()
		must.SliceEmpty(t, e.toOverlay(t.Context(), info).Commands)
	}
}

// The script that gives a user another storage keeps the old one, touches nothing of one that is not empty, and starts
// podman.socket whatever happens.
func TestOverlayScript(t *testing.T) {
	for name, test := range map[string]struct {
		podman    string // what podman says to its arguments
		conf      string
		aside     bool // that place is taken
		moved     bool
		unusable  bool // overlay is, there
		afterward string
	}{
		"empty":            {conf: "[storage]\n  driver=\"vfs\"\nrunroot = \"/driver = x\"\n", moved: true, afterward: "[storage]\n  driver= \"overlay\"\nrunroot = \"/driver = x\"\n"},
		"no storage.conf":  {},
		"no overlay there": {conf: "[storage]\ndriver = \"vfs\"\n", unusable: true, afterward: "[storage]\ndriver = \"vfs\"\n"},
		"place taken":      {conf: "[storage]\ndriver = \"vfs\"\n", aside: true, afterward: "[storage]\ndriver = \"vfs\"\n"},
		"a container":      {podman: `case $1 in ps) echo 1;; esac`},
		"an image":         {podman: `case $1 in images) echo 1;; esac`},
		"a volume":         {podman: `case $1 in volume) echo 1;; esac`},
		"a pod":            {podman: `case $1 in pod) echo 1;; esac`},
		"a secret":         {podman: `case $1 in secret) echo 1;; esac`},
		"a network":        {podman: `case $1 in network) echo mine;; esac`},
		"no answer":        {podman: `case $1 in images) exit 125;; esac`},
		"no answer at all": {podman: `exit 125`},
	} {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "it's home")
			storage, conf, bin := filepath.Join(home, "storage"), filepath.Join(home, "storage.conf"), filepath.Join(home, "bin")
			must.NoError(t, os.MkdirAll(bin, 0o755))
			must.NoError(t, os.MkdirAll(filepath.Join(storage, "vfs"), 0o755))
			if test.aside {
				must.NoError(t, os.MkdirAll(filepath.Join(storage+".vfs", "vfs"), 0o755))
			}
			if test.conf != "" {
				must.NoError(t, os.WriteFile(conf, []byte(test.conf), 0o644))
			}
			info := "echo overlay"
			if test.unusable {
				info = "mkdir " + finding.Command(storage) + "; exit 125"
			}
			for program, text := range map[string]string{
				"podman":    test.podman + "\ncase $1 in network) echo podman;; info) " + info + ";; esac",
				"systemctl": `echo "$@" >>"$OUT"`,
			} {
				must.NoError(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
			}
			out := filepath.Join(home, "out")
			cmd := exec.Command("sh", "-c", overlayScript(storage, conf))
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "OUT=" + out}
			err := cmd.Run()
			must.EqOp(t, test.moved, err == nil, must.Sprint(err))
			said, err := os.ReadFile(out)
			must.NoError(t, err)
			must.EqOp(t, "--user stop podman.socket podman.service\n--user start podman.socket\n", string(said))
			_, err = os.Stat(storage)
			must.EqOp(t, test.moved, errors.Is(err, fs.ErrNotExist))
			_, err = os.Stat(storage + ".vfs/vfs")
			must.EqOp(t, test.moved || test.aside, err == nil)
			text, err := os.ReadFile(conf)
			must.EqOp(t, test.afterward, string(text))
			must.EqOp(t, test.conf == "", errors.Is(err, fs.ErrNotExist))
		})
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

	serve(t, e.path, answers(fmt.Sprintf(infoFormat, "5.4.2", "vfs", "/srv/x", "/run/x", "sqlite"), nil))
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
				`printf '[Socket]\nSocketMode=0600\nSocketUser=root\nSocketGroup=root\n' >/etc/systemd/system/podman.socket.d/zz-nomad-driver-podman.conf`,
				"systemctl daemon-reload",
				"chmod 0600 " + h.path,
				"chown root:root " + h.path,
			}, f.Remedy.Commands)
		}
	}
}
