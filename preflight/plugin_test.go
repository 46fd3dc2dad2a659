package preflight

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
)

// roots is a directory that only root can change, and others not.
func roots(string) bool  { return true }
func others(string) bool { return false }

func TestPlugin(t *testing.T) {
	says := func(version string) string { return "#!/bin/sh\necho nomad-driver-podman " + version + "\n" }
	for name, test := range map[string]struct {
		text string // empty: no plugin
		mode os.FileMode
		want finding.Status
		seen string
	}{
		"missing":        {"", 0, finding.Fail, "is not there"},
		"the same":       {says("1.2.3"), 0o755, finding.OK, "version 1.2.3"},
		"another":        {says("1.2.4"), 0o755, finding.Warn, "has version 1.2.4, and this program 1.2.3"},
		"not executable": {says("1.2.3"), 0o644, finding.Fail, "is not executable"},
		"replaceable":    {says("1.2.3"), 0o777, finding.Warn, "has mode 0777"},
		"ends badly":     {"#!/bin/sh\nexit 3\n", 0o755, finding.Fail, "does not run: exit status 3"},
		"no such driver": {"#!/bin/sh\necho hello\n", 0o755, finding.Fail, "no answer of this driver"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "plugins")
			file := filepath.Join(dir, config.PluginName)
			must.NoError(t, os.Mkdir(dir, 0o755))
			if test.text != "" {
				must.NoError(t, os.WriteFile(file, []byte(test.text), 0o600))
				must.NoError(t, os.Chmod(file, test.mode))
			}
			f := findPlugin(t.Context(), &config.Agent{PluginDir: dir}, self(t), "1.2.3", roots)
			must.Eq(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			if test.want == finding.OK {
				must.True(t, f.Remedy.IsZero())
				return
			}
			this, err := os.Executable()
			must.NoError(t, err)
			must.Eq(t, []string{finding.Command("install", "-D", "-m", "0755", this, file)}, f.Remedy.Commands)
			must.Eq(t, name == "missing", f.Remedy.Safe) // nothing is overwritten unattended
		})
	}
	must.Eq(t, finding.Skipped, findPlugin(t.Context(), &config.Agent{}, self(t), "1", roots).Status)
	far := findPlugin(t.Context(), &config.Agent{PluginDir: "/no/such/data/plugins"}, self(t), "1", roots)
	must.Eq(t, finding.Fail, far.Status)
	must.False(t, far.Remedy.Safe)
}

func TestPluginDirectory(t *testing.T) {
	dir := t.TempDir()
	must.NoError(t, os.WriteFile(filepath.Join(dir, config.PluginName), []byte("#!/bin/sh\nexit 0\n"), 0o755))
	must.NoError(t, os.Chmod(dir, 0o777))
	f := findPlugin(t.Context(), &config.Agent{PluginDir: dir}, self(t), "1", roots)
	must.Eq(t, finding.Warn, f.Status)
	must.StrContains(t, f.Seen, dir+" belongs to")
	must.Eq(t, finding.Command("chmod", "go-w", dir), f.Remedy.Commands[1])
}

// The plugin that is asked is the one that looks.
func TestPluginIsThis(t *testing.T) {
	this, err := os.Executable()
	must.NoError(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, config.PluginName)
	must.NoError(t, os.Symlink(this, file))
	must.Eq(t, finding.OK, findPlugin(t.Context(), &config.Agent{PluginDir: dir}, self(t), "1", roots).Status)
}

// What others can replace on the way to it is not run by root, nor is anything put there unattended.
func TestPluginBelowOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("another user runs what that user can run anyway")
	}
	dir := t.TempDir()
	agent := &config.Agent{PluginDir: dir}
	f := findPlugin(t.Context(), agent, self(t), "1", others)
	must.Eq(t, finding.Fail, f.Status)
	must.False(t, f.Remedy.Safe)
	must.Len(t, 1, f.Remedy.Commands)

	ran := filepath.Join(dir, "ran")
	elsewhere := filepath.Join(t.TempDir(), "plugin")
	must.NoError(t, os.WriteFile(elsewhere, []byte("#!/bin/sh\n: >"+ran+"\n"), 0o755))
	must.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, config.PluginName)))
	f = findPlugin(t.Context(), agent, self(t), "1", func(path string) bool { return path == dir })
	must.Eq(t, finding.Warn, f.Status)
	must.StrContains(t, f.Seen, "on the way to "+filepath.Join(dir, config.PluginName))
	must.SliceEmpty(t, f.Remedy.Commands)
	must.FileNotExists(t, ran)

	f = findPlugin(t.Context(), agent, self(t), "1", func(path string) bool { return path != dir })
	must.Eq(t, finding.Warn, f.Status) // another plugin_dir can take its place
	must.FileNotExists(t, ran)

	findPlugin(t.Context(), agent, self(t), "1", roots)
	must.FileExists(t, ran)
}
