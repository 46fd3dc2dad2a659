// Package selinux knows SELinux: whether it is on, and what that means for containers.
package selinux

import "nomad-driver-podman/finding"

// FindState looks at the host's mandatory access control, SELinux or AppArmor.
func FindState() []finding.Finding { return nil }
