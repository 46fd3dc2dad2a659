package sockets

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

// Where units come from, the first that has one wins (systemd.unit(5)).
var (
	systemUnits = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
	userUnits   = []string{"/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/local/share/systemd/user", "/usr/lib/systemd/user", "/lib/systemd/user"}
)

// ownUnits are a user's own directories, which come before those of all users. They are looked at as the user, and only
// for a report: what they change shows when the unit is started.
func ownUnits(u rootless.User) []string {
	return []string{u.Home + "/.config/systemd/user", u.RuntimeDir() + "/systemd/user"}
}

// findUnitFile looks in directories whether podman.socket is installed and not masked.
func (e *Endpoint) findUnitFile(dirs []string) finding.Finding {
	for _, dir := range dirs {
		path := filepath.Join(dir, socketUnit)
		st, err := os.Stat(path)
		if err != nil {
			continue
		}
		if !st.Mode().IsRegular() || st.Size() == 0 {
			return e.findMask(path)
		}
		return finding.Good("podman-socket", e.subject(), "%s is installed", path)
	}
	return finding.Finding{
		ID: "podman-socket", Subject: e.subject(), Status: finding.Fail, Seen: fmt.Sprintf("%s is not installed in %s", socketUnit, dirs[len(dirs)-1]),
		Why: "it is how systemd starts podman", Remedy: installPodman(), Cause: ErrUnitNotFound,
	}
}

func installPodman() finding.Remedy { return finding.Install("podman", "podman") }

// findMask is the finding that podman.socket is masked, which is a link to /dev/null or an empty file in its place. path is
// empty when only systemd's word is known.
func (e *Endpoint) findMask(path string) finding.Finding {
	seen := path
	if path == "" {
		seen = socketUnit + " of " + e.client.owner
	}
	return finding.Finding{
		ID: "podman-socket", Subject: e.subject(), Status: finding.Fail, Seen: seen + " is masked",
		Why: "systemd does not start podman", Remedy: e.unmask(path), Cause: ErrUnitMasked,
	}
}

// unmask takes the mask at path away, or without a path the one that is likely. It is never safe: a mask is somebody's will.
func (e *Endpoint) unmask(path string) finding.Remedy {
	user := e.User()
	args := []string{"systemctl"}
	switch {
	case user.IsRoot():
	case path != "" && !slices.Contains(ownUnits(user), filepath.Dir(path)):
		args = append(args, "--global")
	default:
		args = append(args, "--user", "--machine="+user.String()+"@")
	}
	if strings.HasPrefix(path, "/run/") {
		args = append(args, "--runtime")
	}
	return finding.Remedy{Commands: []string{finding.Command(append(args, "unmask", socketUnit)...)}}
}
