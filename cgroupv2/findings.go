package cgroupv2

import "nomad-driver-podman/finding"

// FindMode looks at how the host has mounted its control groups. rootless says whether host users are to have containers,
// for which only cgroup v2 will do.
func FindMode(rootless bool) finding.Finding {
	return finding.Skip("cgroup-mode", finding.Host, "")
}

// FindDelegation looks at which controllers a host user's containers have.
func FindDelegation(user string, uid uint32) finding.Finding {
	return finding.Skip("delegation", user, "")
}
