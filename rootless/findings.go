package rootless

import "nomad-driver-podman/finding"

// FindAccount looks for a host user. Without one the returned user is Unknown.
func FindAccount(name string) (User, finding.Finding) {
	return Unknown, finding.Skip("account", name, "")
}

// FindHome looks at the user's home directory.
func (u User) FindHome() finding.Finding { return finding.Skip("home", u.Name, "") }

// FindSpace looks at the space where the user's podman keeps images and containers.
func (u User) FindSpace() finding.Finding { return finding.Skip("space", u.Name, "") }

// FindRuntimeDir looks at the user's runtime directory. managerRuns says whether it has to be there.
func (u User) FindRuntimeDir(managerRuns bool) finding.Finding {
	return finding.Skip("runtime-dir", u.Name, "")
}

// FindSubordinateIDs looks at the user's subordinate IDs.
func (u User) FindSubordinateIDs() finding.Finding {
	return finding.Skip("subordinate-ids", u.Name, "")
}

// FindConfiguration looks at the files that tell the user's podman what to do.
func (u User) FindConfiguration() []finding.Finding { return nil }

// FindIDHelpers looks at the programs that let users use their subordinate IDs.
func FindIDHelpers() finding.Finding { return finding.Skip("id-helpers", finding.Host, "") }

// FindNamespaces looks at whether users may make user namespaces.
func FindNamespaces() finding.Finding { return finding.Skip("user-namespaces", finding.Host, "") }
