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
// user can have put it there. onlyRoot tells whether root alone can change what is in a directory.
func findPlugin(ctx context.Context, agent *config.Agent, self rootless.User, version string, onlyRoot func(dir string) bool) finding.Finding {
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
		f.Remedy.Safe = err == nil && onlyRoot(existing(agent.PluginDir))
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
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return finding.Unknown(id, finding.Host, err)
	}
	changeable, protect, err := findChangeable(file, real, self, onlyRoot)
	switch {
	case err != nil:
		return finding.Unknown(id, finding.Host, err)
	case info.Mode()&0o111 == 0:
		f.Seen, f.Remedy = file+" is not executable", install
		return f
	case changeable != "":
		f.Status, f.Seen, f.Why = finding.Warn, changeable, "the agent runs it, and others than the agent's user can replace it"
		if f.Remedy = protect; protect.IsZero() {
			f.Remedy = install
		}
		return f
	case isThis:
		return finding.Good(id, finding.Host, "%s, version %s", file, version)
	}
	f.Remedy = install
	theirs, err := versionOf(ctx, real)
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

// findChangeable says what lets others than root and this user replace a plugin; real is its path without links. remedy is
// zero when that is the file itself.
func findChangeable(file, real string, self rootless.User, onlyRoot func(dir string) bool) (what string, remedy finding.Remedy, err error) {
	dir := filepath.Dir(file)
	for _, path := range []string{real, dir} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return "", finding.Remedy{}, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		if (st.Uid == 0 || st.Uid == self.UID) && st.Mode&0o022 == 0 {
			continue
		}
		if path == dir {
			remedy.Commands = []string{finding.Command("chown", self.String(), path), finding.Command("chmod", "go-w", path)}
		}
		return fmt.Sprintf("%s belongs to UID %d and has mode %04o", path, st.Uid, st.Mode&0o7777), remedy, nil
	}
	if self.IsRoot() && (!onlyRoot(filepath.Dir(real)) || !onlyRoot(dir)) {
		remedy.Advice = "have root own each directory on the way there, and nobody else write to it, or set another plugin_dir"
		return fmt.Sprintf("others than root can change directories on the way to %s", file), remedy, nil
	}
	return "", finding.Remedy{}, nil
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
