package cgroupv2

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/cgroups/v3"

	"nomad-driver-podman/finding"
)

// mountPoint is where systemd mounts control groups.
const mountPoint = "/sys/fs/cgroup"

// ErrNoHierarchy says that the host has no cgroup v2 tree at all.
var ErrNoHierarchy = errors.New("this host has only cgroup v1")

// Mode is how a host has mounted its control groups.
type Mode int

// The modes, as systemd calls them (https://systemd.io/CGROUP_DELEGATION, "Three Scenarios").
const (
	Legacy  Mode = iota // only cgroup v1
	Hybrid              // controllers in cgroup v1, and a cgroup v2 tree without them
	Unified             // only cgroup v2
)

func (m Mode) String() string { return [...]string{"legacy", "hybrid", "unified"}[m] }

// Unmeasured says what of a rootful container's usage is not known in this mode; empty: nothing.
func (m Mode) Unmeasured() string {
	switch m {
	case Legacy:
		return "This host has only cgroup v1: what the task uses is not measured"
	case Hybrid:
		return "This host's controllers are those of cgroup v1: of what the task uses only CPU time is measured, not memory, processes or throttling"
	default:
		return ""
	}
}

// mounts are a host's control groups.
type mounts struct {
	mode Mode
	dir  string // where they are mounted
}

// detect finds out by the types of the file systems that are mounted there.
func detect() (mounts, error) {
	m := mounts{dir: mountPoint}
	switch cgroups.Mode() {
	case cgroups.Unified:
		m.mode = Unified
	case cgroups.Hybrid:
		m.mode = Hybrid
	case cgroups.Legacy:
		m.mode = Legacy
	default:
		return mounts{}, fmt.Errorf("no control groups are mounted at %s", mountPoint)
	}
	return m, nil
}

// DetectMode returns the host's mode. It fails when no control groups are mounted.
func DetectMode() (Mode, error) {
	m, err := detect()
	return m.mode, err
}

// Mounted returns the host's cgroup v2 tree, on a hybrid host the one without controllers. The error is
// ErrNoHierarchy where there is none.
func Mounted() (Hierarchy, error) {
	m, err := detect()
	if err != nil {
		return Hierarchy{}, err
	}
	return m.hierarchy()
}

func (m mounts) hierarchy() (Hierarchy, error) {
	switch m.mode {
	case Unified:
		return Hierarchy{Root: m.dir}, nil
	case Hybrid:
		return Hierarchy{Root: filepath.Join(m.dir, "unified")}, nil
	default:
		return Hierarchy{}, ErrNoHierarchy
	}
}

// FindMode looks at how the host has mounted its control groups. rootless says whether host users are to have containers,
// for which only cgroup v2 will do.
func FindMode(rootless bool) finding.Finding {
	m, err := detect()
	if err != nil {
		return finding.Finding{ID: idMode, Subject: finding.Host, Status: finding.Fail, Cause: err,
			Seen: err.Error(), Why: "a container needs one"}
	}
	return m.findMode(rootless)
}

const idMode = "cgroup-mode"

func (m mounts) findMode(rootless bool) finding.Finding {
	if m.mode == Unified {
		return finding.Good(idMode, finding.Host, "cgroup v2")
	}
	f := finding.Finding{ID: idMode, Subject: finding.Host, Status: finding.Warn,
		Seen: fmt.Sprintf("this host mounts cgroup v1 (systemd's %s mode)", m.mode),
		Why:  "little or nothing of what tasks use is measured", Remedy: bootWith("systemd.unified_cgroup_hierarchy=1")}
	if rootless {
		f.Status, f.Why = finding.Fail, "no limit holds for rootless containers"
		f.Remedy.Advice += ", or run the task on a rootful socket"
	}
	return f
}

// CheckRootless returns an error that says what to do where rootless containers could have neither limits nor stats:
// only controllers of cgroup v2 can be delegated.
func CheckRootless() error { return FindMode(true).Err() }
