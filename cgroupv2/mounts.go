package cgroupv2

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containerd/cgroups/v3"
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

// CheckRootless returns an error that says what to do where rootless containers could have neither limits nor stats:
// only controllers of cgroup v2 can be delegated.
func CheckRootless() error {
	m, err := detect()
	if err != nil {
		return err
	}
	return m.checkRootless()
}

func (m mounts) checkRootless() error {
	if m.mode == Unified {
		return nil
	}
	return fmt.Errorf("this host mounts cgroup v1 (systemd's %s mode), where no limit holds for rootless containers: boot it with systemd.unified_cgroup_hierarchy=1, or run the task on a rootful socket", m.mode)
}
