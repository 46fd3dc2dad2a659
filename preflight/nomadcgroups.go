package preflight

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

const (
	// cgroupRoot is where Nomad takes the cgroups to be (client/lib/cgutil.CgroupRoot).
	cgroupRoot = "/sys/fs/cgroup"
	// cgroupParent is the default of client { cgroup_parent } with cgroup v2 (client/lib/cgutil.DefaultCgroupParentV2).
	cgroupParent = "nomad.slice"
)

// cgroupControllers have to be on for all cgroups, or Nomad leaves its own away (client/lib/cgutil.minimumRootControllers).
var cgroupControllers = []string{"cpuset", "cpu", "io", "memory", "pids"}

// findNomadCgroups tells whether an agent without root waits for cgroups that it may not make. Nomad 1.6 leaves them away
// where it can neither make their parent nor switch controllers on; with both there already it waits, and only its log says
// why. owns tells whether a file is the user's.
func findNomadCgroups(root string, agent *config.Agent, self rootless.User, owns func(path string) bool) finding.Finding {
	const id = "nomad-cgroups"
	if self.IsRoot() {
		return finding.Skip(id, finding.Host, "an agent that runs as root can make them")
	}
	if !slices.ContainsFunc(append([]string{agent.DataDir}, agent.Files...), owns) {
		return finding.Skip(id, finding.Host, "no agent of this user's is configured")
	}
	text, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control")) //nolint:gosec // of the kernel's
	if errors.Is(err, fs.ErrNotExist) {
		return finding.Skip(id, finding.Host, "%s is not cgroup v2", root)
	}
	if err != nil {
		return finding.Unknown(id, finding.Host, err)
	}
	parent := filepath.Join(root, cmp.Or(agent.CgroupParent, cgroupParent))
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) || owns(parent) {
		return finding.Good(id, finding.Host, "nobody else has made %s", parent)
	}
	f := finding.Finding{ID: id, Subject: finding.Host, Status: finding.Fail,
		Seen: fmt.Sprintf("%s is there, and not this user's", parent),
		Why:  `Nomad 1.6 waits for cgroups that it may not make there, and only its log says so ("failed to apply cgroup"): no task ever starts`,
		Remedy: finding.Remedy{Advice: `in the agent's configuration, set client { cgroup_parent = "nomad-rootless.slice" }, a cgroup that nobody makes: ` +
			"then Nomad does without, and the tasks are in those that podman makes"}}
	on := strings.Fields(string(text))
	if slices.ContainsFunc(cgroupControllers, func(name string) bool { return !slices.Contains(on, name) }) {
		f.Status = finding.Warn
		f.Why = fmt.Sprintf("once systemd or another agent has switched %s on, %s", strings.Join(cgroupControllers, ", "), f.Why)
	}
	return f
}

// ownedBy tells whether a file is a user's.
func ownedBy(user rootless.User) func(path string) bool {
	return func(path string) bool {
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil && st.Uid == user.UID
	}
}
