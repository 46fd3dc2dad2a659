//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
	"gopkg.in/yaml.v3"
)

// What is to be put into the snippets of examples/provision.
var (
	noURL      = "https://example.com/nomad-driver-podman"
	noChecksum = strings.Repeat("0", sha256.Size*2)
)

// The snippets of examples/provision make a node whose tasks run as a host user that did not exist.
func TestProvisioning(t *testing.T) {
	for _, tc := range []struct {
		snippet string
		run     func(t *testing.T, file string) (said string)
		again   string // what it says when it is run again; empty: that is not done
	}{
		{"cloud-init.yaml", cloudInit, ""},
		{"ansible.yml", ansible, " changed=0 "},
	} {
		t.Run(tc.snippet, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("../examples/provision", tc.snippet))
			must.NoError(t, err)
			plugin, err := os.ReadFile(pluginFile)
			must.NoError(t, err)
			source := filepath.Join(t.TempDir(), "plugin")
			must.NoError(t, os.WriteFile(source, plugin, 0o644))
			checksum := sha256.Sum256(plugin)
			filled := string(text)
			for placeholder, value := range map[string]string{noURL: "file://" + source, noChecksum: hex.EncodeToString(checksum[:])} {
				must.Eq(t, 1, strings.Count(filled, placeholder))
				filled = strings.ReplaceAll(filled, placeholder, value)
			}
			file := filepath.Join(t.TempDir(), tc.snippet)
			must.NoError(t, os.WriteFile(file, []byte(filled), 0o644))

			config, err := os.ReadFile(pluginConfig)
			must.NoError(t, err)
			t.Cleanup(func() { forgetFixes(t) })
			t.Cleanup(func() { hostUser{"team-x", lookupUID(t, "team-x")}.remove(t) })
			t.Cleanup(func() { restartAgent(t, config) })
			started := time.Now()
			tc.run(t, file)
			awaitDriver(t, started)

			user := hostUser{"team-x", lookupUID(t, "team-x")}
			must.SliceEmpty(t, user.containers(t)) // none of a run test's
			j := run(t, "routing", only("unnamed"))
			runningAs(t, j, "unnamed", user)
			if tc.again != "" {
				must.StrContains(t, tc.run(t, file), tc.again)
				runningAs(t, j, "unnamed", user)
			}
		})
	}
}

// cloudConfig is what the snippet has of cloud-init's modules. To install cloud-init itself in the machine would take as
// much as all that tests need.
type cloudConfig struct {
	PackageUpdate bool     `yaml:"package_update"`
	Packages      []string `yaml:"packages"`
	WriteFiles    []struct {
		Path        string `yaml:"path"`
		Permissions string `yaml:"permissions"`
		Content     string `yaml:"content"`
	} `yaml:"write_files"`
	RunCmd []yaml.Node `yaml:"runcmd"`
}

// cloudInit does what cloud-init does with the file at a first boot, in its order: files, packages, and then the commands,
// which are made one shell script (cc_runcmd). The lists of packages are not updated, since there is no network.
func cloudInit(t *testing.T, file string) string {
	t.Helper()
	text, err := os.Open(file)
	must.NoError(t, err)
	defer text.Close()
	var config cloudConfig
	decoder := yaml.NewDecoder(text)
	decoder.KnownFields(true)
	must.NoError(t, decoder.Decode(&config))

	for _, wanted := range config.WriteFiles {
		must.NoError(t, os.MkdirAll(filepath.Dir(wanted.Path), 0o755))
		must.NoError(t, os.WriteFile(wanted.Path, []byte(wanted.Content), 0o644))
		command(t, "chmod", wanted.Permissions, wanted.Path)
	}
	must.True(t, config.PackageUpdate)
	command(t, "apt-get", append([]string{"--option=Dpkg::Options::=--force-confold", "--assume-yes", "--quiet", "install"}, config.Packages...)...)
	script := "#!/bin/sh\n"
	for _, node := range config.RunCmd {
		if node.Kind == yaml.ScalarNode {
			script += node.Value + "\n"
			continue
		}
		var words []string
		must.NoError(t, node.Decode(&words))
		for _, word := range words {
			script += "'" + strings.ReplaceAll(word, "'", `'\''`) + "' "
		}
		script += "\n"
	}
	path := filepath.Join(t.TempDir(), "runcmd")
	must.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	out, said, exit := execute(t, "/bin/sh", path)
	must.Eq(t, 0, exit, must.Sprint(out, said))
	return out
}

// ansible runs the playbook for this machine.
func ansible(t *testing.T, file string) string {
	t.Helper()
	// As if the lists of packages had just been updated: there is no network.
	must.NoError(t, os.Chtimes("/var/lib/apt/lists", time.Now(), time.Now()))
	out, said, exit := execute(t, "env", "LC_ALL=C.UTF-8", "ANSIBLE_NOCOLOR=1", "ANSIBLE_LOCAL_TEMP="+t.TempDir(), "ANSIBLE_REMOTE_TEMP="+t.TempDir(),
		"ansible-playbook", "--connection=local", "--inventory=localhost,", "--extra-vars=ansible_python_interpreter=/usr/bin/python3", file)
	must.Eq(t, 0, exit, must.Sprint(out, said))
	return out
}
