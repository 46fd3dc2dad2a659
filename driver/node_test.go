package driver

import (
	"errors"
	"net"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
)

// testNode is a node with these socket blocks, that connects to nothing.
func testNode(t *testing.T, plugin config.Plugin) *node {
	t.Helper()
	plugin.StateDir = t.TempDir()
	node, err := newNode(&plugin, hclog.NewNullLogger(), func() {})
	must.NoError(t, err)
	t.Cleanup(func() { node.close(hclog.NewNullLogger()) })
	return node
}

func TestRoute(t *testing.T) {
	node := testNode(t, config.Plugin{
		Sockets: []config.Socket{
			{Name: "first", SocketPath: "/run/first.sock"},
			{Name: "default", SocketPath: "/run/default.sock"},
			{Name: "lost", HostUser: "no-such-user"},
		},
		Rootless: config.Rootless{AllowUsers: []string{"no-such-*"}, MinUID: 1000},
	})
	for name, test := range map[string]struct {
		task       config.Task
		path, says string
	}{
		"none":           {config.Task{}, "/run/default.sock", ""},
		"named":          {config.Task{Socket: "first"}, "/run/first.sock", ""},
		"unknown socket": {config.Task{Socket: "other"}, "", `no socket block is called "other"; this node has ["first" "default"]`},
		"broken socket":  {config.Task{Socket: "lost"}, "", "no-such-user"},
		"unknown user":   {config.Task{HostUser: "no-such-user"}, "", `"host_user": `},
		"root":           {config.Task{HostUser: "root"}, "", "root cannot be a host user"},
		"not allowed":    {config.Task{HostUser: "nobody"}, "", `"nobody" is not allowed`},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, err := node.route(&test.task, "default")
			if test.says != "" {
				must.ErrorContains(t, err, test.says)
				return
			}
			must.NoError(t, err)
			must.Eq(t, test.path, endpoint.Path())
		})
	}
}

func TestRouteByNamespace(t *testing.T) {
	node := testNode(t, config.Plugin{
		Sockets: []config.Socket{
			{Name: "first", SocketPath: "/run/first.sock"},
			{Name: "a", SocketPath: "/run/a.sock", DefaultFor: []string{"team-a", "a-*"}},
			{Name: "b", SocketPath: "/run/b.sock", Namespaces: []string{"team-b"}, DefaultFor: []string{"team-b"}},
			{Name: "mine", HostUser: "nobody", Namespaces: []string{"mine"}},
			{Name: "default", SocketPath: "/run/default.sock", Namespaces: []string{"default", "a*"}},
		},
		Rootless: config.Rootless{AllowUsers: []string{"*"}, Namespaces: []string{"mine", "team-*"}, MinUID: 1000},
	})
	for name, test := range map[string]struct {
		task            config.Task
		namespace       string
		socket, refused string
	}{
		"its default":              {config.Task{}, "team-a", "a", ""},
		"its default, by glob":     {config.Task{}, "a-test", "a", ""},
		"another's default":        {config.Task{}, "team-b", "b", ""},
		"the default":              {config.Task{}, "default", "default", ""},
		"the default is closed":    {config.Task{}, "team-c", "", `the default socket "default" is not open to the Nomad namespace "team-c"`},
		"named, though no default": {config.Task{Socket: "first"}, "team-c", "first", ""},
		"named, its own":           {config.Task{Socket: "b"}, "team-b", "b", ""},
		"named, another's":         {config.Task{Socket: "b"}, "team-a", "", `"b" is not open to the Nomad namespace "team-a"`},
		"no namespace is told":     {config.Task{Socket: "b"}, "", "", `"b" is not open`},
		"users are not for all":    {config.Task{HostUser: "nobody"}, "default", "", "rootless.namespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, err := node.route(&test.task, test.namespace)
			if test.refused != "" {
				must.ErrorContains(t, err, test.refused)
				return
			}
			must.NoError(t, err)
			must.Eq(t, test.socket, endpoint.Name())
		})
	}

	// A user cannot be reached around the blocks of that user.
	_, err := node.route(&config.Task{HostUser: "nobody"}, "team-a")
	must.ErrorContains(t, err, "socket.namespaces")
	endpoint, err := node.route(&config.Task{HostUser: "nobody"}, "mine")
	must.NoError(t, err)
	must.Eq(t, "mine", endpoint.Name())
}

// Who may use a host user is decided from the configuration, whatever state the endpoints are in.
func TestRouteAroundUnusableBlocks(t *testing.T) {
	dir := t.TempDir()
	node := testNode(t, config.Plugin{
		Sockets: []config.Socket{
			{Name: "default", SocketPath: "/run/default.sock"}, // open to all, whoever's it is
			{Name: "later", HostUser: "nobody", Namespaces: []string{"mine"}},
			{Name: "silent", SocketPath: dir + "/silent.sock", Namespaces: []string{"mine", "other"}},
		},
		Rootless: config.Rootless{AllowUsers: []string{"*"}, MinUID: 1},
	})
	nobody, daemon := &config.Task{HostUser: "nobody"}, &config.Task{HostUser: "daemon"}

	// As when the account was made after the agent's start.
	broken := errors.New("unknown host user")
	node.broken["later"] = broken
	_, err := node.route(nobody, "other")
	must.ErrorContains(t, err, `"nobody" is not open to the Nomad namespace "other" (plugin option socket.namespaces)`)
	_, err = node.route(nobody, "mine")
	must.NoError(t, err)

	// The socket may be anybody's, until somebody listens there.
	_, err = node.route(daemon, "elsewhere")
	must.ErrorContains(t, err, `"daemon" is not open to the Nomad namespace "elsewhere"`)
	must.ErrorContains(t, err, `socket "silent" might be theirs: open `+dir)
	_, err = node.route(daemon, "other")
	must.NoError(t, err)
	listener, err := net.Listen("unix", dir+"/silent.sock")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, listener.Close()) })
	_, err = node.route(daemon, "elsewhere")
	must.NoError(t, err)
}

func TestDefaultSocket(t *testing.T) {
	must.Eq(t, "default", (&config.Plugin{}).DefaultName())
	first := testNode(t, config.Plugin{Sockets: []config.Socket{{Name: "a", SocketPath: "/a"}, {Name: "b", SocketPath: "/b"}}})
	must.Eq(t, "a", first.config.DefaultName())
	only := testNode(t, config.Plugin{SocketPath: "/run/x.sock"})
	endpoint, err := only.route(&config.Task{}, "any")
	must.NoError(t, err)
	must.Eq(t, "/run/x.sock", endpoint.Path())
}

// A socket block that cannot be used shows in the fingerprint and leaves the others alone.
func TestFingerprintNamesTheBroken(t *testing.T) {
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	print, _ := driver.fingerprint(t.Context())
	must.Eq(t, "undetected", string(print.Health))

	driver.node = testNode(t, config.Plugin{Sockets: []config.Socket{{Name: "a-b", SocketPath: "/run/a.sock"}, {Name: "lost", HostUser: "no-such-user"}}})
	print, unusable := driver.fingerprint(t.Context())
	must.Eq(t, "healthy", string(print.Health))
	must.MapLen(t, 1, unusable)
	must.ErrorContains(t, unusable["lost"], "no-such-user")
	must.Eq(t, "Cannot fingerprint certain podman sockets: lost", print.HealthDescription)
	name, _ := print.Attributes["driver.podman.socketName"].GetString()
	must.Eq(t, "a-b", name)
	must.MapContainsKey(t, print.Attributes, "driver.podman.a_b.socket")
}
