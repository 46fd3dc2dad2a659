// Package selinux knows SELinux: whether it is on, and what that means for containers.
package selinux

import (
	"io/fs"
	"os"
	"path"
	"strings"

	selinux "github.com/opencontainers/selinux/go-selinux"

	"nomad-driver-podman/finding"
)

// FindState looks at the host's mandatory access control, SELinux or AppArmor.
func FindState() []finding.Finding {
	mode := selinux.Disabled
	if selinux.GetEnabled() {
		mode = selinux.EnforceMode()
	}
	return []finding.Finding{findState(os.DirFS("/"), mode)}
}

// findState is for a mode of SELinux, and what root has of files.
func findState(root fs.FS, mode int) finding.Finding {
	const id = "mandatory-access"
	if mode != selinux.Enforcing && mode != selinux.Permissive {
		// Y or N, as the kernel writes boolean parameters of modules.
		if on, err := fs.ReadFile(root, "sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(on), "Y") {
			return finding.Good(id, finding.Host, "AppArmor is on")
		}
		return finding.Good(id, finding.Host, "neither SELinux nor AppArmor is on")
	}
	policy := policyType(root)
	if mode == selinux.Permissive {
		return finding.Good(id, finding.Host, "SELinux is permissive, with the policy %s: it forbids nothing", policy)
	}
	f := finding.Good(id, finding.Host, "SELinux is enforcing, with the policy %s", policy)
	store := path.Join("var/lib/selinux", policy, "active/modules") // semodule(8): PRIORITY/NAME, for root's eyes only
	priorities, err := fs.ReadDir(root, store)
	if err != nil {
		return f
	}
	for _, priority := range priorities {
		if _, err := fs.Stat(root, path.Join(store, priority.Name(), "container")); err == nil {
			return f
		}
	}
	f.Status = finding.Warn
	f.Seen += ", which has no module container"
	f.Why = "it knows no containers: they are refused what they need, or not kept from what they must not have"
	f.Remedy = finding.Install("selinux-policy-default", "container-selinux")
	return f
}

// policyType is SELINUXTYPE of /etc/selinux/config (selinux_config(5)).
func policyType(root fs.FS) string {
	policy := "targeted"
	text, err := fs.ReadFile(root, "etc/selinux/config")
	if err != nil {
		return policy
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "SELINUXTYPE="); found {
			policy = finding.Printable(strings.TrimSpace(value))
		}
	}
	return policy
}
