package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// A later block replaces an earlier one as a whole, unless it is empty.
func TestFromAgentDirectory(t *testing.T) {
	agent, err := FromAgent("testdata/agent.d")
	must.NoError(t, err)
	plugin := agent.Plugin
	must.Eq(t, []Socket{
		{Name: "default", HostUser: "team-a"},
		{Name: "b", HostUser: "team-b", Namespaces: []string{"team-b"}},
	}, plugin.Sockets)
	must.Eq(t, []string{"team-*"}, plugin.Rootless.AllowUsers)
	must.Eq(t, 2000, plugin.Rootless.MinUID)
	must.True(t, plugin.Rootless.Linger)
	must.True(t, plugin.Volumes.Enabled)
	must.Eq(t, LogJournald, plugin.Logging.Driver)

	for i, file := range agent.Files {
		agent.Files[i] = filepath.Base(file)
	}
	must.Eq(t, []string{"10-nomad.hcl", "20-podman.hcl", "30-podman.json", "40-empty.hcl"}, agent.Files)
	must.Eq(t, "/opt/nomad/data", agent.DataDir)
	must.Eq(t, "/opt/nomad/data/plugins", agent.PluginDir)
	must.Eq(t, "/opt/nomad/data/alloc", agent.AllocDir)
	must.Eq(t, "/opt/cni/bin", agent.CNIPath)
}

func TestFromAgentFiles(t *testing.T) {
	agent, err := FromAgent("testdata/agent.d", "testdata/two-blocks.hcl")
	must.NoError(t, err)
	must.SliceEmpty(t, agent.Plugin.Sockets)
	must.Eq(t, "/run/second.sock", agent.Plugin.SocketPath)

	agent, err = FromAgent("testdata/empty-block.hcl")
	must.NoError(t, err)
	must.Eq(t, 1000, agent.Plugin.Rootless.MinUID)
	must.Eq(t, "1m0s", agent.Plugin.ClientTimeout.String())
	must.Eq(t, "", agent.DataDir)
	must.Eq(t, "", agent.PluginDir)
}

// Later files win where they set something; a file that is HCL and one that is JSON say the same.
func TestFromAgentDirectories(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		must.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	first := file("a.hcl", `
data_dir   = "/a"
plugin_dir = "/a-plugins"
client {
  alloc_dir = "/a-alloc"
  cni_path  = "/a-cni"

  cgroup_parent = "a.slice"
}
client {
  cni_path = "/a-cni:/more"
}
plugin "nomad-driver-podman" {}`)
	agent, err := FromAgent(first, file("b.json", `{"data_dir": "/b", "client": {"enabled": true}}`))
	must.NoError(t, err)
	must.Eq(t, []string{"/b", "/a-plugins", "/a-alloc", "/a-cni:/more"}, []string{agent.DataDir, agent.PluginDir, agent.AllocDir, agent.CNIPath})
	must.Eq(t, "a.slice", agent.CgroupParent)

	agent, err = FromAgent(first, file("c.json", `{"plugin_dir": "/c", "client": {"alloc_dir": "/c-alloc", "cni_path": "/c-cni"}}`))
	must.NoError(t, err)
	must.Eq(t, []string{"/a", "/c", "/c-alloc", "/c-cni"}, []string{agent.DataDir, agent.PluginDir, agent.AllocDir, agent.CNIPath})
}

// The files that this project shows are read as a whole.
func TestFromAgentExamples(t *testing.T) {
	agent, err := FromAgent("../../examples/agent/nomad.hcl", "../../examples/agent/podman.hcl")
	must.NoError(t, err)
	must.Eq(t, []string{"/opt/nomad/data", "/opt/nomad/plugins", "/usr/lib/cni"}, []string{agent.DataDir, agent.PluginDir, agent.CNIPath})
}

// What is wrong is told, and what could be read is there, with defaults for the rest.
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
			agent, err := FromAgent("testdata/agent.d/10-nomad.hcl", "testdata/"+file)
			must.ErrorContains(t, err, "testdata/"+file)
			must.ErrorContains(t, err, says)
			must.Eq(t, "/opt/nomad/data", agent.DataDir)
			must.Eq(t, 1000, agent.Plugin.Rootless.MinUID)
			must.Eq(t, "1m0s", agent.Plugin.ClientTimeout.String())
			must.StrHasSuffix(t, PluginName, agent.Plugin.StateDir)
		})
	}
}

// What does not end or never begins is no file of an agent's.
func TestFromAgentReadsFiles(t *testing.T) {
	dir := t.TempDir()
	fifo, long := filepath.Join(dir, "fifo.hcl"), filepath.Join(dir, "long.hcl")
	must.NoError(t, unix.Mkfifo(fifo, 0o600))
	must.NoError(t, os.WriteFile(long, bytes.Repeat([]byte("#"), maxFile+1), 0o600))
	for file, says := range map[string]string{fifo: "not a regular file", "/dev/zero": "not a regular file", long: "longer than 1048576 bytes"} {
		_, err := FromAgent(file)
		must.ErrorContains(t, err, file)
		must.ErrorContains(t, err, says)
	}
}
