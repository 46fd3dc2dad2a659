package cgroupv2

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Of returns the path of the cgroup v2 that a process is in, also on a hybrid host, from
// /proc/PID/cgroup (cgroups(7)). The error is ErrGone when the process has ended or its cgroup
// was removed, and ErrNoHierarchy on a legacy host. Only a pidfd that still is alive afterwards
// shows whose cgroup it is.
func Of(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		err = ErrGone
	}
	if err != nil {
		return "", fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	found, err := unified(string(text))
	if err != nil {
		return "", fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	return found, nil
}

// unified finds the line of the unified hierarchy in the text of /proc/PID/cgroup.
func unified(text string) (string, error) {
	for line := range strings.Lines(text) {
		found, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		if strings.HasSuffix(found, " (deleted)") {
			return "", ErrGone
		}
		return found, checkPath(found)
	}
	return "", ErrNoHierarchy
}

// checkPath refuses a path that is not absolute or not clean, as is that of a process outside
// this cgroup namespace ("/../..").
func checkPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p {
		return fmt.Errorf("%q is not the clean absolute path of a cgroup", p)
	}
	return nil
}

// userManager is the cgroup of a host user's systemd manager.
func userManager(uid uint32) string {
	return fmt.Sprintf("/user.slice/user-%d.slice/user@%d.service", uid, uid)
}

// InUserManager tells whether a cgroup lies below that of a host user's systemd manager, where
// rootless podman puts containers. A path that is not clean does not.
func InUserManager(path string, uid uint32) bool {
	return checkPath(path) == nil && strings.HasPrefix(path, userManager(uid)+"/")
}
