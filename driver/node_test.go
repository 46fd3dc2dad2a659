package driver

import (
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
			endpoint, err := node.route(&test.task)
			if test.says != "" {
				must.ErrorContains(t, err, test.says)
				return
			}
			must.NoError(t, err)
			must.Eq(t, test.path, endpoint.Path())
		})
	}
}

func TestDefaultSocket(t *testing.T) {
	must.Eq(t, "default", testNode(t, config.Plugin{}).defaultName())
	first := testNode(t, config.Plugin{Sockets: []config.Socket{{Name: "a", SocketPath: "/a"}, {Name: "b", SocketPath: "/b"}}})
	must.Eq(t, "a", first.defaultName())
	only := testNode(t, config.Plugin{SocketPath: "/run/x.sock"})
	endpoint, err := only.route(&config.Task{})
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
