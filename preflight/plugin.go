package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// findPlugin looks at the plugin in the agent's plugin_dir, and asks it for its version where nobody but root or this
// user can have put it there.
func findPlugin(ctx context.Context, agent *config.Agent, self rootless.User, version string) finding.Finding {
	const id = "plugin"
	if agent.PluginDir == "" {
		return finding.Skip(id, finding.Host, "neither plugin_dir nor data_dir is configured")
	}
	file := filepath.Join(agent.PluginDir, config.PluginName)
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrPermission) && !self.IsRoot() {
		return finding.Skip(id, finding.Host, "%s: %s", file, needsRoot)
	}
	this, thisErr := os.Executable()
	if thisErr != nil {
		return finding.Unknown(id, finding.Host, thisErr)
	}
	f := finding.Finding{ID: id, Subject: finding.Host, Status: finding.Fail, Why: "Nomad has no podman driver"}
	install := finding.Remedy{
		Commands: []string{finding.Command("install", "-D", "-m", "0755", this, file)},
		Advice:   "the agent loads it when it starts again",
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Seen, f.Remedy = file+" is not there", install
		// With -D a data directory that is not there would be made open to all.
		_, err := os.Stat(filepath.Dir(agent.PluginDir))
		f.Remedy.Safe = err == nil
		return f
	case err != nil:
		return finding.Unknown(id, finding.Host, err)
	case !info.Mode().IsRegular():
		f.Seen, f.Remedy.Advice = file+" is not a regular file", "move it away, and put the plugin there"
		return f
	}
	isThis := sameFile(file, this)
	if isThis {
		install.Commands = []string{finding.Command("chown", self.String(), file), finding.Command("chmod", "0755", file)}
	}
	f.Remedy = install
	var changeable string
	for _, path := range []string{file, agent.PluginDir} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return finding.Unknown(id, finding.Host, &fs.PathError{Op: "stat", Path: path, Err: err})
		}
		if changeable == "" && (st.Uid != 0 && st.Uid != self.UID || st.Mode&0o022 != 0) {
			changeable = fmt.Sprintf("%s belongs to UID %d and has mode %04o", path, st.Uid, st.Mode&0o7777)
			if path == agent.PluginDir {
				f.Remedy.Commands = []string{finding.Command("chown", self.String(), path), finding.Command("chmod", "go-w", path)}
			}
		}
	}
	switch {
	case info.Mode()&0o111 == 0:
		f.Seen = file + " is not executable"
		return f
	case changeable != "":
		f.Status, f.Seen, f.Why = finding.Warn, changeable, "the agent runs it, and others than the agent's user can replace it"
		return f
	case isThis:
		return finding.Good(id, finding.Host, "%s, version %s", file, version)
	}
	theirs, err := versionOf(ctx, file)
	switch {
	case err != nil:
		f.Seen, f.Cause = fmt.Sprintf("%s does not run: %s", file, err), err
	case theirs != version:
		f.Status, f.Seen = finding.Warn, fmt.Sprintf("%s has version %s, and this program %s", file, theirs, version)
		f.Why = "what this program finds out may not hold for the plugin"
	default:
		return finding.Good(id, finding.Host, "%s, version %s", file, version)
	}
	return f
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// versionOf asks a plugin for its version: "nomad-driver-podman VERSION".
func versionOf(ctx context.Context, file string) (string, error) {
	cmd := exec.CommandContext(ctx, file, "version") //nolint:gosec // nobody but root or this user can have put it there
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	version, is := strings.CutPrefix(strings.TrimSpace(string(out)), config.PluginName+" ")
	if !is {
		return "", fmt.Errorf("%q is no answer of this driver", finding.Printable(string(out)))
	}
	return finding.Printable(version), nil
}
