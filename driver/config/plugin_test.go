package config

import (
	"testing"

	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/shoenig/test/must"
)

func parsePlugin(t *testing.T, hcl string) (*Plugin, error) {
	t.Helper()
	cfg, err := parse(t, PluginSchema(), hclutils.HclConfigToInterface(t, "config {\n"+hcl+"\n}"))
	must.NoError(t, err)
	plugin := &Plugin{}
	must.NoError(t, cfg.DecodeDriverConfig(plugin))
	var data []byte
	must.NoError(t, base.MsgPackEncode(&data, plugin))
	return DecodePlugin(data)
}

func TestPluginDefaults(t *testing.T) {
	plugin, err := parsePlugin(t, ``)
	must.NoError(t, err)
	must.True(t, plugin.Volumes.Enabled)
	must.True(t, plugin.Rootless.Linger)
	must.True(t, plugin.Rootless.CPUWeight)
	must.Eq(t, 1000, plugin.Rootless.MinUID)
	must.Eq(t, WarnDelegation, plugin.Rootless.Delegation)
	must.Eq(t, "1m0s", plugin.ClientTimeout.String())
	must.StrHasSuffix(t, "/nomad-driver-podman", plugin.StateDir)
	must.Eq(t, Logging{Driver: "nomad"}, plugin.Logging)
	must.False(t, plugin.DisableLogs)
	must.Eq(t, Allowed{}, plugin.Allowed)
}

func TestPluginLogging(t *testing.T) {
	plugin, err := parsePlugin(t, "disable_log_collection = true\n logging {\n driver = \"journald\"\n options {\n tag = \"x\"\n }\n}")
	must.NoError(t, err)
	must.True(t, plugin.DisableLogs)
	must.Eq(t, Logging{Driver: "journald", Options: map[string]string{"tag": "x"}}, plugin.Logging)
}

func TestPluginSockets(t *testing.T) {
	plugin, err := parsePlugin(t, `
		socket { host_user = "team-a" }
		socket {
			name        = "rootful"
			socket_path = "unix:///run/podman/podman.sock"
		}
		rootless { allow_users = ["team-*"] }
		volumes { enabled = false }`)
	must.NoError(t, err)
	must.Eq(t, []Socket{{Name: "default", HostUser: "team-a"}, {Name: "rootful", SocketPath: "/run/podman/podman.sock"}}, plugin.Sockets)
	must.False(t, plugin.Volumes.Enabled)
	must.NoError(t, plugin.Rootless.AllowsUser("team-b", 2002))
	must.ErrorContains(t, plugin.Rootless.AllowsUser("other", 2002), "allow_users")
	must.ErrorContains(t, plugin.Rootless.AllowsUser("team-b", 200), "min_uid")
	must.ErrorContains(t, plugin.Rootless.AllowsUser("root", 0), "root cannot be")
}

func TestPluginRefused(t *testing.T) {
	for name, test := range map[string]struct{ hcl, says string }{
		"duplicate":    {"socket { host_user = \"a\" }\n socket { host_user = \"b\" }", `two blocks are called "default"`},
		"empty socket": {`socket { name = "x" }`, "needs one of socket_path and host_user"},
		"both":         {"socket_path = \"/a\"\n socket { host_user = \"b\" }", "cannot stand together"},
		"relative":     {`socket_path = "unix:a"`, "is not the path of a unix socket"},
		"timeout":      {`client_http_timeout = "soon"`, "is not a duration"},
		"log driver":   {`logging { driver = "syslog" }`, `"logging": the driver "syslog" is not known`},
		"namespace": {`socket {
			host_user  = "team-a"
			namespaces = ["["]
		}`, "socket.namespaces"},
		"closed default": {`socket {
			host_user   = "team-a"
			namespaces  = ["team-*"]
			default_for = ["other"]
		}`, "socket.default_for"},
		"delegation": {`rootless { delegation = "maybe" }`, `"rootless.delegation": "maybe" is not known; use "warn" or "require"`},
		"release":    {`rootless { release_after = "soon" }`, "rootless.release_after"},
		"two defaults": {`socket {
			host_user   = "team-a"
			default_for = ["x"]
		}
		socket {
			name        = "b"
			host_user   = "team-b"
			default_for = ["x"]
		}`, `both "default" and "b" are to be its default`},
		"capability":            {`allow_caps = ["NET-ADMIN"]`, `"allow_caps": "CAP_NET-ADMIN": unknown capability`},
		"capability of a block": {"socket {\n host_user = \"a\"\n allow_caps = [\"x\"]\n}", `"socket.allow_caps": "default": "CAP_X": unknown capability`},
		"glob":                  {`rootless { allow_users = ["["] }`, "allow_users"},
		"state":                 {`state_dir = "here"`, "is not an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsePlugin(t, test.hcl)
			must.ErrorContains(t, err, test.says)
		})
	}
}

func TestSocketPath(t *testing.T) {
	for _, text := range []string{"/run/p.sock", "unix:/run/p.sock", "unix://run/p.sock", "unix:///run/p.sock"} {
		path, err := socketPath(text)
		must.NoError(t, err)
		must.Eq(t, "/run/p.sock", path)
	}
}
