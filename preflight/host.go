package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

const idConfiguration = "configuration"

// findConfiguration tells what of the agent's configuration was read. wrong is why that was not all.
func findConfiguration(agent *config.Agent, wrong error) []finding.Finding {
	switch {
	case errors.Is(wrong, fs.ErrPermission) && os.Geteuid() != 0:
		return []finding.Finding{finding.Skip(idConfiguration, finding.Host, "%s: %s", needsRoot, wrong)}
	case wrong != nil:
		return []finding.Finding{wrongConfiguration(wrong)}
	case len(agent.Files) == 0:
		return []finding.Finding{finding.Skip(idConfiguration, finding.Host, "%s is not there; defaults are looked at", config.AgentConfig)}
	}
	return []finding.Finding{finding.Good(idConfiguration, finding.Host, "%s", strings.Join(agent.Files, ", "))}
}

func wrongConfiguration(err error) finding.Finding {
	return finding.Finding{ID: idConfiguration, Subject: finding.Host, Status: finding.Fail, Seen: oneLine(err.Error()), Cause: err,
		Why:    "the agent does not start the plugin with it, and the rest of these findings is for its defaults",
		Remedy: finding.Remedy{Advice: "correct the agent's configuration, or name it with -config"}}
}

// findKernel looks at the kernel's version.
func findKernel() finding.Finding {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return finding.Unknown("kernel", finding.Host, fmt.Errorf("uname: %w", err))
	}
	return kernel(unix.ByteSliceToString(name.Release[:]))
}

func kernel(release string) finding.Finding {
	f := finding.Good("kernel", finding.Host, "Linux %s", release)
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return finding.Unknown("kernel", finding.Host, fmt.Errorf("%q is no version of Linux", release))
	}
	before := func(otherMajor, otherMinor int) bool {
		return major < otherMajor || major == otherMajor && minor < otherMinor
	}
	switch {
	case before(5, 12):
		f.Status, f.Why = finding.Fail, "tasks are shown their directories with mount_setattr(2), which Linux has since 5.12"
	case before(5, 13):
		f.Status, f.Why = finding.Warn, "host users can mount overlays since Linux 5.13; before, their containers need fuse-overlayfs"
	default:
		return f
	}
	f.Remedy.Advice = "install a newer kernel, and reboot"
	return f
}

// findIDMaps makes sure that rootless tasks can be shown what root has in their secrets/: a tmpfs, which Nomad mounts.
func findIDMaps(self rootless.User) finding.Finding {
	const id, dir = "idmapped-mounts", "/run"
	var st unix.Statfs_t
	switch err := unix.Statfs(dir, &st); {
	case !self.IsRoot():
		return finding.Skip(id, finding.Host, needsRoot)
	case err != nil:
		return finding.Unknown(id, finding.Host, fmt.Errorf("statfs %s: %w", dir, err))
	case st.Type != unix.TMPFS_MAGIC:
		return finding.Skip(id, finding.Host, "%s, where this is tried, is no tmpfs", dir)
	}
	err := rootless.CheckIDMap(dir)
	if errors.Is(err, rootless.ErrIDMapUnsupported) {
		return finding.Finding{ID: id, Subject: finding.Host, Status: finding.Warn, Seen: "this kernel cannot ID-map a tmpfs", Cause: err,
			Why:    "rootless tasks cannot read what only root can in secrets/, such as tokens",
			Remedy: finding.Remedy{Advice: "install Linux 6.3 or newer, and reboot"}}
	}
	if err != nil {
		return finding.Unknown(id, finding.Host, err)
	}
	return finding.Good(id, finding.Host, "a tmpfs can be ID-mapped")
}
