package driver

import (
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/exits"
	"nomad-driver-podman/rootless"
)

// Who may use what is the same question before a start and for a task that is there, whatever became of its socket block.
func TestMayUse(t *testing.T) {
	node := testNode(t, config.Plugin{
		Sockets: []config.Socket{
			{Name: "default", HostUser: "daemon"},
			{Name: "b1", HostUser: "nobody", Namespaces: []string{"b", "both"}},
			{Name: "b2", HostUser: "nobody", Namespaces: []string{"c", "both"}},
			{Name: "silent", SocketPath: t.TempDir() + "/silent.sock", Namespaces: []string{"b"}},
		},
		Rootless: config.Rootless{AllowUsers: []string{"nobody", "games"}, Namespaces: []string{"b", "c", "both", "games"}, MinUID: 1},
	})
	user := func(name string) rootless.User {
		user, err := rootless.Lookup(name)
		must.NoError(t, err)
		return user
	}
	nobody, daemon, games, bin := user("nobody"), user("daemon"), user("games"), user("bin")
	for name, test := range map[string]struct {
		at        place
		namespace string
		blocks    []string // that hold; "" is the plugin
		says      string
	}{
		"open to all":              {place{socket: "default", user: daemon}, "x", []string{"default"}, ""},
		"open":                     {place{socket: "b1", user: nobody}, "b", []string{"b1"}, ""},
		"closed":                   {place{socket: "b1", user: nobody}, "c", nil, `"b1" is not open to the Nomad namespace "c" (plugin option socket.namespaces)`},
		"a path where nobody is":   {place{socket: "silent", user: rootless.Unknown}, "b", []string{"silent"}, ""},
		"closed path":              {place{socket: "silent", user: rootless.Unknown}, "c", nil, `"silent" is not open`},
		"by user":                  {place{socket: "b1", user: nobody, calledBy: "nobody"}, "c", []string{"b2"}, ""},
		"by user, may be silent's": {place{socket: "b1", user: nobody, calledBy: "nobody"}, "b", []string{"b1", "silent"}, ""},
		"by user, two blocks":      {place{socket: "b1", user: nobody, calledBy: "nobody"}, "both", []string{"b1", "b2"}, ""},
		"by user, closed":          {place{socket: "b1", user: nobody, calledBy: "nobody"}, "games", nil, `"nobody" is not open to the Nomad namespace "games"`},
		"by user, without blocks":  {place{socket: "games", user: games, calledBy: "games"}, "b", []string{"", "silent"}, ""},
		"by user, not allowed":     {place{socket: "default", user: daemon, calledBy: "daemon"}, "b", nil, `"daemon" is not allowed: the agent's rootless.allow_users`},
		"by user, no users for it": {place{socket: "games", user: games, calledBy: "games"}, "x", nil, "plugin option rootless.namespaces"},
		"renamed block":            {place{socket: "was", user: nobody}, "c", []string{"b2"}, ""},
		"renamed and closed":       {place{socket: "was", user: nobody}, "games", nil, `"nobody" is not open to the Nomad namespace "games"`},
		"another user's block":     {place{socket: "b1", user: daemon}, "c", []string{"default"}, ""},
		"no block any more":        {place{socket: "was", user: bin}, "b", nil, `"bin" is not allowed`},
		"no block, but allowed":    {place{socket: "was", user: games}, "b", []string{"", "silent"}, ""},
		"root's block is gone":     {place{socket: "rootful"}, "b", nil, "root cannot be a host user"},
	} {
		t.Run(name, func(t *testing.T) {
			blocks, err := node.mayUse(test.namespace, test.at)
			if test.blocks == nil {
				must.ErrorContains(t, err, test.says)
				return
			}
			must.NoError(t, err)
			var names []string
			for _, block := range blocks {
				names = append(names, block.Name)
			}
			must.Eq(t, test.blocks, names)
		})
	}
	// The implied one is open to all.
	only := testNode(t, config.Plugin{SocketPath: "/run/x.sock"})
	_, err := only.mayUse("x", place{socket: "default", user: rootless.Unknown})
	must.NoError(t, err)
	_, err = only.mayUse("x", place{socket: "before", user: nobody})
	must.ErrorContains(t, err, "rootless.allow_users")
}

// What may not be asked for is refused before there is an endpoint, by the options of all blocks that may hold.
func TestRouteChecksPrivileges(t *testing.T) {
	no, yes := false, true
	plugin := config.Plugin{
		Sockets: []config.Socket{
			{Name: "default", HostUser: "daemon"},
			{Name: "strict", HostUser: "nobody", Allowed: config.Allowed{Privileged: &no}},
			{Name: "loose", HostUser: "nobody", Allowed: config.Allowed{Privileged: &yes}},
			{Name: "silent", SocketPath: t.TempDir() + "/silent.sock", Allowed: config.Allowed{Caps: []string{"SYS_TIME"}}},
		},
		Rootless: config.Rootless{AllowUsers: []string{"*"}, MinUID: 1},
		Allowed:  config.Allowed{Caps: []string{"NET_ADMIN", "SYS_TIME"}},
	}
	node := testNode(t, plugin)
	for name, test := range map[string]struct {
		task config.Task
		says string
	}{
		"the plugin's":           {config.Task{CapAdd: []string{"sys_admin"}}, `config option "cap_add": ["sys_admin"] are not allowed on this socket, only ["NET_ADMIN" "SYS_TIME"] (plugin option allow_caps)`},
		"allowed by it":          {config.Task{CapAdd: []string{"cap_net_admin"}}, ""},
		"a block's":              {config.Task{Socket: "strict", Privileged: true}, `config option "privileged": it is not allowed on this socket (plugin option socket.allow_privileged of "strict")`},
		"allowed by it, too":     {config.Task{Socket: "loose", Privileged: true}, ""},
		"not around a block":     {config.Task{HostUser: "nobody", Privileged: true}, `of "strict"`},
		"nor what may be theirs": {config.Task{HostUser: "games", CapAdd: []string{"NET_ADMIN"}}, `plugin option socket.allow_caps of "silent"`},
		"by user, the plugin's":  {config.Task{HostUser: "games", CapAdd: []string{"SYS_ADMIN"}}, `(plugin option allow_caps)`},
		"by user, allowed":       {config.Task{HostUser: "games", CapAdd: []string{"SYS_TIME"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, err := node.route(&test.task, "default")
			if test.says != "" {
				must.ErrorContains(t, err, test.says)
				must.Nil(t, endpoint)
				return
			}
			must.NoError(t, err)
		})
	}
}

// refusable is a recovered task of the namespace team-a, which runs until its podman gets a signal for it. The socket block is
// open to one namespace only.
type refusable struct {
	*Driver
	task   *task
	events <-chan *drivers.TaskEvent

	mu       sync.Mutex
	requests []string
}

func recoveredTask(t *testing.T, openTo string, asked config.Asked) *refusable {
	t.Helper()
	r := &refusable{}
	r.Driver, r.events = driverWithEvents(t)
	program := exec.Command("sleep", "1d")
	must.NoError(t, program.Start())
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = program.Process.Kill()
		<-ended
	})
	go func() {
		_ = program.Wait() // by the signal
		close(ended)
	}()
	endpoint := servePodman(t, func(w http.ResponseWriter, req *http.Request) {
		verb := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
		r.mu.Lock()
		r.requests = append(r.requests, verb)
		r.mu.Unlock()
		switch verb {
		case "info":
			_, _ = io.WriteString(w, `{"version": {"APIVersion": "5.4.2"}}`)
		case "json":
			_, _ = io.WriteString(w, `{"Id": "c", "State": {"Running": false}}`)
		case "kill":
			_ = program.Process.Kill()
		}
	})
	no := false
	r.node = testNode(t, config.Plugin{
		Sockets:        []config.Socket{{Name: "fake", SocketPath: endpoint.Path(), Namespaces: []string{openTo}}},
		Rootless:       config.Rootless{MinUID: 1},
		Allowed:        config.Allowed{Privileged: &no},
		ClientTimeout:  time.Minute,
		RecoverStopped: true,
	})
	process, err := exits.Identify(program.Process.Pid)
	must.NoError(t, err)
	r.task = &task{
		cfg: &drivers.TaskConfig{ID: "x", Name: "redis", Namespace: "team-a"}, endpoint: endpoint, taken: closed,
		state: taskState{ContainerID: "c", Socket: "fake", HostUID: endpoint.User().UID, Asked: asked},
	}
	r.task.process, err = r.exits.Watch(process)
	must.NoError(t, err)
	r.task.untold.Store(true)
	t.Cleanup(func() { must.NoError(t, r.task.release()) })
	r.tasks.put("x", r.task)
	return r
}

// asked are the requests that podman has got.
func (r *refusable) asked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

func TestNothingGoesToARefusedTask(t *testing.T) {
	r := recoveredTask(t, "team-b", config.Asked{})
	self, err := rootless.Self()
	must.NoError(t, err)
	says := `the Nomad namespace "team-a" may not use host user ` + self.Name + ` any more: "fake" is not open to the Nomad namespace "team-a" ` +
		`(plugin option socket.namespaces); open the host user to the namespace in the agent's configuration, or stop the task, which runs on without commands and signals`

	_, err = r.ExecTask("x", []string{"sh"}, time.Minute)
	must.EqError(t, err, `task redis: running "sh" in its container: `+says)
	output, stderr := io.Pipe()
	shown := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(output)
		shown <- string(text)
	}()
	_, err = r.ExecTaskStreaming(t.Context(), "x", &drivers.ExecOptions{Command: []string{"sh"}, Stdin: output, Stdout: stderr, Stderr: stderr})
	must.EqError(t, err, `task redis: running "sh" in its container: `+says)
	must.NoError(t, stderr.Close())
	must.Eq(t, err.Error()+"\n", <-shown)
	must.EqError(t, r.SignalTask("x", "SIGHUP"), "task redis: sending SIGHUP: "+says)
	must.SliceEmpty(t, r.asked())

	must.NoError(t, r.StopTask("x", time.Minute, "SIGTERM"))
	must.Eq(t, []string{"kill"}, r.asked())
}

func TestSignalTask(t *testing.T) {
	r := recoveredTask(t, "team-a", config.Asked{Privileged: true}) // which it could not be started with
	must.NoError(t, r.SignalTask("x", "SIGHUP"))
	must.Eq(t, []string{"kill"}, r.asked())
}

// That a recovered task would be refused is told once, and when Nomad listens.
func TestTellRefused(t *testing.T) {
	for name, test := range map[string]struct {
		openTo string
		asked  config.Asked
		says   string
	}{
		"open":           {"team-a", config.Asked{}, ""},
		"closed":         {"team-b", config.Asked{}, `"fake" is not open to the Nomad namespace "team-a" (plugin option socket.namespaces). It runs on`},
		"not privileged": {"team-a", config.Asked{Privileged: true}, `This task would be refused now: config option "privileged": it is not allowed on this socket`},
	} {
		t.Run(name, func(t *testing.T) {
			r := recoveredTask(t, test.openTo, test.asked)
			for range 2 {
				_, err := r.WaitTask(t.Context(), "x")
				must.NoError(t, err)
			}
			if test.says != "" {
				must.StrContains(t, nextEvent(t, r.events), test.says)
			}
			noEvent(t, r.Driver, r.events)
		})
	}
}

// A container that was found ended is started again only for those who could start it.
func TestStartAgainAsks(t *testing.T) {
	for name, test := range map[string]struct {
		openTo string
		asked  config.Asked
		says   string
	}{
		"closed":         {"team-b", config.Asked{}, "is not open to the Nomad namespace"},
		"not privileged": {"team-a", config.Asked{Privileged: true}, `"privileged": it is not allowed`},
	} {
		t.Run(name, func(t *testing.T) {
			r := recoveredTask(t, test.openTo, test.asked)
			_, err := r.takeOrStart(t.Context(), r.node, r.task)
			must.ErrorContains(t, err, test.says)
			must.SliceNotContains(t, r.asked(), "start")
			_, err = r.WaitTask(t.Context(), "x")
			must.NoError(t, err)
			said := nextEvent(t, r.events)
			must.StrHasPrefix(t, "Did not start the container again, which was found ended (plugin option recover_stopped): ", said)
			must.StrContains(t, said, test.says)
		})
	}
	t.Run("allowed", func(t *testing.T) {
		r := recoveredTask(t, "team-a", config.Asked{})
		_, err := r.takeOrStart(t.Context(), r.node, r.task)
		must.Error(t, err) // it has no directories that it could be started with
		must.NoError(t, r.task.refused)
	})
}
