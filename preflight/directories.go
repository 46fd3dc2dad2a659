package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// findDataDir looks at where the agent keeps allocations.
func findDataDir(agent *config.Agent, self rootless.User) finding.Finding {
	const id = "data-dir"
	if agent.DataDir == "" {
		return finding.Skip(id, finding.Host, "no data_dir is configured")
	}
	if _, err := os.Stat(agent.DataDir); errors.Is(err, fs.ErrNotExist) {
		return finding.Skip(id, finding.Host, "%s is not there; the agent makes it when it first starts", agent.DataDir)
	}
	f := findDirectory(id, agent.DataDir, self, "no task finds its directories")
	if f.Status != finding.OK {
		return f
	}
	f = findSpace(f, agent.AllocDir)
	var st unix.Statfs_t
	if err := unix.Statfs(existing(agent.AllocDir), &st); err == nil && st.Flags&unix.ST_NOEXEC != 0 && f.Status == finding.OK {
		f.Status, f.Why = finding.Warn, "tasks cannot run programs that they find in their directories, such as artifacts"
		f.Seen = agent.AllocDir + " is on a file system that is mounted noexec"
		f.Remedy.Advice = "mount it without noexec (fstab(5)), or set another data_dir"
	}
	return f
}

// findStateDir looks at where the driver keeps its records.
func findStateDir(dir string, self rootless.User) finding.Finding {
	const id = "state-dir"
	if dir == "" {
		return finding.Skip(id, finding.Host, "no state_dir is configured, and this user has no home directory")
	}
	f := findDirectory(id, dir, self, "the driver cannot note what it starts, and starts nothing")
	if f.Status == finding.OK {
		f = findSpace(f, dir)
	}
	return f
}

// findDirectory looks at a directory that the agent or the driver makes where it is not there, and that not everybody may
// change. broken is why it matters that it cannot be used.
func findDirectory(id, dir string, self rootless.User, broken string) finding.Finding {
	f := finding.Good(id, finding.Host, "%s", dir)
	there := existing(dir)
	var st unix.Stat_t
	err := unix.Access(there, unix.W_OK|unix.X_OK)
	if err == nil {
		err = unix.Stat(there, &st)
	}
	switch {
	case err == unix.EACCES && !self.IsRoot():
		return finding.Skip(id, finding.Host, "%s: %s", dir, needsRoot)
	case err != nil:
		f.Status, f.Seen, f.Why, f.Cause = finding.Fail, fmt.Sprintf("%s cannot be written: %s", there, err), broken, err
		f.Remedy.Advice = "make it a directory that the agent's user can write, on a file system that is not mounted read-only"
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		f.Status, f.Seen, f.Why = finding.Fail, there+" is not a directory", broken
		f.Remedy.Advice = "move it away"
	case there == dir && st.Mode&0o022 != 0:
		f.Status, f.Seen = finding.Warn, fmt.Sprintf("%s has mode %04o", dir, st.Mode&0o7777)
		f.Why = "whoever can write there can change what tasks and the driver find"
		f.Remedy.Commands = []string{finding.Command("chmod", "go-w", dir)}
	}
	return f
}

// findSpace makes of a good finding about a directory one about the space there, too.
func findSpace(f finding.Finding, dir string) finding.Finding {
	space, err := rootless.SpaceAt(existing(dir))
	if err != nil {
		return finding.Unknown(f.ID, f.Subject, err)
	}
	of := space.Find(f.ID, f.Subject)
	of.Seen = f.Seen + ": " + of.Seen
	return of
}

// existing is a path, or what is there of the way to it.
func existing(path string) string {
	for path != "/" && path != "." {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		path = filepath.Dir(path)
	}
	return path
}
