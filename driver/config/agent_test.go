package config

import (
	"testing"

	"github.com/shoenig/test/must"
)

// A later block replaces an earlier one as a whole, unless it is empty.
func TestFromAgentDirectory(t *testing.T) {
	plugin, err := FromAgent("testdata/agent.d")
	must.NoError(t, err)
	must.Eq(t, []Socket{
		{Name: "default", HostUser: "team-a"},
		{Name: "b", HostUser: "team-b", Namespaces: []string{"team-b"}},
	}, plugin.Sockets)
	must.Eq(t, []string{"team-*"}, plugin.Rootless.AllowUsers)
	must.Eq(t, 2000, plugin.Rootless.MinUID)
	must.True(t, plugin.Rootless.Linger)
	must.True(t, plugin.Volumes.Enabled)
	must.Eq(t, LogJournald, plugin.Logging.Driver)
}

func TestFromAgentFiles(t *testing.T) {
	plugin, err := FromAgent("testdata/agent.d", "testdata/two-blocks.hcl")
	must.NoError(t, err)
	must.SliceEmpty(t, plugin.Sockets)
	must.Eq(t, "/run/second.sock", plugin.SocketPath)

	plugin, err = FromAgent("testdata/empty-block.hcl")
	must.NoError(t, err)
	must.Eq(t, 1000, plugin.Rootless.MinUID)
	must.Eq(t, "1m0s", plugin.ClientTimeout.String())
}

func TestFromAgentRefused(t *testing.T) {
	for file, says := range map[string]string{
		"no-block.hcl":       `there is no block plugin "nomad-driver-podman"`,
		"unknown-option.hcl": "allow_user",
		"wrong-type.hcl":     "recover_stopped",
		"wrong-value.hcl":    `plugin option "client_http_timeout"`,
		"wrong-syntax.hcl":   "object expected closing RBRACE",
		"missing.hcl":        "no such file or directory",
	} {
		t.Run(file, func(t *testing.T) {
			_, err := FromAgent("testdata/" + file)
			must.ErrorContains(t, err, "testdata/"+file)
			must.ErrorContains(t, err, says)
		})
	}
}
