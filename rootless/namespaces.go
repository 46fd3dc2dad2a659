package rootless

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nomad-driver-podman/finding"
)

// appArmorProfile is what AppArmor needs to know where it restricts user namespaces; Ubuntu 24.04 has the same.
const appArmorProfile = `abi <abi/4.0>,
include <tunables/global>
profile podman /usr/bin/podman flags=(unconfined) {
  userns,
  include if exists <local/podman>
}
`

// FindNamespaces looks at whether users may make user namespaces (user_namespaces(7)).
func FindNamespaces() finding.Finding { return findNamespaces("/") }

func findNamespaces(root string) finding.Finding {
	const id = "user-namespaces"
	if _, err := os.Stat(filepath.Join(root, "proc/self/ns/user")); errors.Is(err, fs.ErrNotExist) {
		return finding.Finding{ID: id, Subject: finding.Host, Status: finding.Fail,
			Seen: "this kernel has no user namespaces", Why: "rootless podman cannot start",
			Remedy: finding.Remedy{Advice: "boot a kernel with CONFIG_USER_NS"}}
	}
	var seen, commands []string
	for _, sysctl := range []struct{ name, bad, good string }{
		{"user.max_user_namespaces", "0", "28633"},
		{"kernel.unprivileged_userns_clone", "0", "1"}, // of Debian's kernels
	} {
		// Where a kernel does not have it, it restricts nothing.
		if text, err := os.ReadFile(filepath.Join(root, "proc/sys", strings.ReplaceAll(sysctl.name, ".", "/"))); err == nil && string(bytes.TrimSpace(text)) == sysctl.bad {
			seen = append(seen, sysctl.name+" is "+sysctl.bad)
			commands = append(commands,
				finding.Command("printf", `%s\n`, sysctl.name+" = "+sysctl.good)+" >"+finding.Command("/etc/sysctl.d/90-nomad-driver-podman-"+sysctl.name+".conf"),
				finding.Command("sysctl", "-w", sysctl.name+"="+sysctl.good))
		}
	}
	// The restriction of Ubuntu's AppArmor is lifted for programs whose profile says so.
	if text, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/apparmor_restrict_unprivileged_userns")); err == nil && string(bytes.TrimSpace(text)) == "1" && !hasProfile(root) {
		seen = append(seen, "kernel.apparmor_restrict_unprivileged_userns is 1, and AppArmor has no profile for podman")
		const path = "/etc/apparmor.d/podman"
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			commands = append(commands, finding.Command("printf", "%s", appArmorProfile)+" >"+path)
		}
		commands = append(commands, finding.Command("apparmor_parser", "-r", path))
	}
	if seen == nil {
		return finding.Good(id, finding.Host, "users may make them")
	}
	return finding.Finding{ID: id, Subject: finding.Host, Status: finding.Fail, Seen: strings.Join(seen, ", "),
		Why: "rootless podman cannot start", Remedy: finding.Remedy{Commands: commands,
			Advice: "somebody may have forbidden them on purpose: see /etc/sysctl.d, where files that come later in the alphabet win"}}
}

// hasProfile tells whether AppArmor has a profile called podman. Only root can see what the kernel has loaded.
func hasProfile(root string) bool {
	loaded, err := os.ReadFile(filepath.Join(root, "sys/kernel/security/apparmor/profiles"))
	if err == nil {
		return strings.HasPrefix(string(loaded), "podman (") || strings.Contains(string(loaded), "\npodman (")
	}
	_, err = os.Stat(filepath.Join(root, "etc/apparmor.d/podman"))
	return err == nil
}
