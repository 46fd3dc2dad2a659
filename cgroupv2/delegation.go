package cgroupv2

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	if err := m.checkRootless(); err != nil {
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

// Check returns an error when the limit that an option of a job sets cannot hold. The error names the controller, the user
// and what to do.
func (d Delegation) Check(option string) error {
	controller := controllerOf[option]
	switch {
	case slices.Contains(d.Controllers, controller):
		return nil
	case d.UID == 0:
		return fmt.Errorf("%s needs the cgroup controller %q, which this host's kernel does not offer: boot it with cgroup_enable=%s", option, controller, controller)
	}
	return fmt.Errorf("%s needs the cgroup controller %q, which is not delegated to host user %s. To delegate it, run as root: %s", option, controller, d.User, d.remedy())
}

// remedy are the shell commands that delegate every controller that a limit may need, and io, to all host users. A manager
// that runs already gets them with the next property that is set, be it the default.
func (d Delegation) remedy() string {
	const dropIn = "/etc/systemd/system/user@.service.d"
	return fmt.Sprintf(`mkdir -p %s && printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >%s/delegate.conf && systemctl daemon-reload && systemctl set-property --runtime user@%d.service CPUWeight=100`, dropIn, dropIn, d.UID)
}
