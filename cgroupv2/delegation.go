package cgroupv2

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nomad-driver-podman/finding"
)

// controllerOf is the controller that holds a task's limit, by the option of a job that sets the limit.
var controllerOf = map[string]string{
	"cpu":                "cpu",
	"cpu_hard_limit":     "cpu",
	"cores":              "cpuset",
	"memory":             "memory",
	"memory_max":         "memory",
	"memory_hard_limit":  "memory",
	"memory_reservation": "memory",
	"memory_swap":        "memory",
	"pids_limit":         "pids",
}

// Delegation is what the containers of a user can use: the controllers that systemd has delegated to a host user's
// manager, or for root those of the kernel. A container's OCI runtime enables those that it needs on the way down from
// there (cgroup.subtree_control).
type Delegation struct {
	User        string // the user's name, for messages
	UID         uint32
	Mode        Mode
	Controllers []string
}

// DelegatedTo returns what is delegated to a user at this moment. The error is ErrGone when the host user's manager
// does not run, and that of CheckRootless where nothing can be delegated.
func DelegatedTo(user string, uid uint32) (Delegation, error) {
	m, err := detect()
	if err != nil {
		return Delegation{}, err
	}
	return m.delegatedTo(user, uid)
}

func (m mounts) delegatedTo(user string, uid uint32) (Delegation, error) {
	d := Delegation{User: user, UID: uid, Mode: m.mode}
	if m.mode != Unified && uid == 0 {
		d.Controllers = m.legacyControllers()
		return d, nil
	}
	if err := m.findMode(true).Err(); err != nil {
		return Delegation{}, err
	}
	path := "/"
	if uid != 0 {
		path = userManager(uid)
	}
	hierarchy, err := m.hierarchy()
	if err != nil {
		return Delegation{}, err
	}
	if d.Controllers, err = hierarchy.Controllers(path); err != nil {
		return Delegation{}, fmt.Errorf("controllers of %s: %w", user, err)
	}
	return d, nil
}

// legacyControllers are those of cgroup v1 that hold limits, each of which is mounted under its name, if only by a link
// (cgroups(7)).
func (m mounts) legacyControllers() []string {
	var mounted []string
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
		if _, err := os.Stat(filepath.Join(m.dir, controller)); err == nil {
			mounted = append(mounted, controller)
		}
	}
	return mounted
}

// FindDelegation looks at which controllers a host user's containers have, or root's.
func FindDelegation(user string, uid uint32) finding.Finding {
	m, err := detect()
	if err != nil {
		return finding.Unknown(idDelegation, user, err)
	}
	return m.findDelegation(user, uid)
}

const idDelegation = "delegation"

func (m mounts) findDelegation(user string, uid uint32) finding.Finding {
	if m.mode != Unified && uid != 0 {
		return finding.Skip(idDelegation, user, "cgroup v1 cannot be delegated")
	}
	d, err := m.delegatedTo(user, uid)
	if errors.Is(err, ErrGone) {
		return finding.Skip(idDelegation, user, "known once user@%d.service runs", uid)
	}
	if err != nil {
		return finding.Unknown(idDelegation, user, err)
	}
	if missing := d.missing("memory", "cpu", "pids"); len(missing) > 0 {
		return d.lacking(missing, finding.Fail, "no limit of these holds")
	}
	wanted := []string{"cpuset", "io"}
	if m.mode != Unified {
		wanted = []string{"cpuset"} // that of cgroup v1 for io limits nothing that a job can ask for
	}
	if missing := d.missing(wanted...); len(missing) > 0 {
		why := map[string]string{"cpuset": "no cores can be reserved", "io": "reads and writes are not measured"}
		reasons := make([]string, len(missing))
		for i, controller := range missing {
			reasons[i] = why[controller]
		}
		return d.lacking(missing, finding.Warn, strings.Join(reasons, ", "))
	}
	return finding.Good(idDelegation, user, "%s", strings.Join(d.Controllers, " "))
}

func (d Delegation) missing(wanted ...string) []string {
	return slices.DeleteFunc(wanted, func(controller string) bool { return slices.Contains(d.Controllers, controller) })
}

// lacking is the finding that containers do not have some controllers.
func (d Delegation) lacking(controllers []string, status finding.Status, why string) finding.Finding {
	return finding.Finding{ID: idDelegation, Subject: d.User, Status: status, Why: why,
		Seen: strings.Join(controllers, ", ") + " " + d.lack(), Remedy: d.remedy(controllers)}
}

func (d Delegation) lack() string {
	if d.UID == 0 {
		return "not offered by this host's kernel"
	}
	return "not delegated to host user " + d.User
}

// Check returns an error when the limit that an option of a job sets cannot hold. The error names the controller, the user
// and what to do.
func (d Delegation) Check(option string) error {
	missing := d.missing(controllerOf[option])
	if len(missing) == 0 {
		return nil
	}
	f := d.lacking(missing, finding.Fail, "")
	f.Seen = fmt.Sprintf("%s needs the cgroup controller %q, which is %s", option, missing[0], d.lack())
	return f.Err()
}

// remedy delegates every controller that a limit may need, and io, to all host users. It does so with a file of its own,
// since systemd adds what several files delegate. A manager that runs already gets the controllers with the next property
// that is set, be it the default.
func (d Delegation) remedy(controllers []string) finding.Remedy {
	if d.UID == 0 {
		return bootWith("cgroup_enable=" + strings.Join(controllers, " cgroup_enable="))
	}
	const dropIn = "/etc/systemd/system/user@.service.d"
	return finding.Remedy{Safe: true, Commands: []string{
		finding.Command("mkdir", "-p", dropIn),
		finding.Command("printf", `[Service]\nDelegate=cpu cpuset io memory pids\n`) + " >" + dropIn + "/50-nomad-driver-podman.conf",
		"systemctl daemon-reload",
		finding.Command("systemctl", "set-property", "--runtime", fmt.Sprintf("user@%d.service", d.UID), "CPUWeight=100"),
	}}
}
