package cgroupv2

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

const manager1001 = "/user.slice/user-1001.slice/user@1001.service"

// unifiedMounts has a host user with Debian's delegation, and one whom nothing is delegated.
func unifiedMounts(t *testing.T) mounts {
	t.Helper()
	return mounts{Unified, fakeHierarchy(t, map[string]map[string]string{
		"/":         {"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n"},
		manager1001: {"cgroup.controllers": "cpu memory pids\n"},
		"/user.slice/user-1002.slice/user@1002.service": {"cgroup.controllers": "\n"},
	}).Root}
}

// legacyMounts are laid out as systemd does it in the modes with cgroup v1, on a host without cpusets.
func legacyMounts(t *testing.T, mode Mode) mounts {
	t.Helper()
	h := fakeHierarchy(t, map[string]map[string]string{
		"/cpu,cpuacct": {}, "/memory": {}, "/pids": {}, "/systemd": {},
	})
	must.NoError(t, os.Symlink("cpu,cpuacct", filepath.Join(h.Root, "cpu")))
	if mode == Hybrid {
		must.NoError(t, os.MkdirAll(filepath.Join(h.Root, "unified/machine.slice/libpod-1.scope"), 0o755))
		files := map[string]string{"cgroup.controllers": "\n", "machine.slice/libpod-1.scope/cpu.stat": "usage_usec 7\nuser_usec 7\nsystem_usec 0\n"}
		for name, text := range files {
			must.NoError(t, os.WriteFile(filepath.Join(h.Root, "unified", name), []byte(text), 0o644))
		}
	}
	return mounts{mode, h.Root}
}

func TestDelegatedTo(t *testing.T) {
	m := unifiedMounts(t)
	for uid, want := range map[uint32][]string{
		0:    {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"},
		1001: {"cpu", "memory", "pids"},
		1002: {},
	} {
		got, err := m.delegatedTo("someone", uid)
		must.NoError(t, err)
		must.Eq(t, Delegation{User: "someone", UID: uid, Mode: Unified, Controllers: want}, got)
	}
	_, err := m.delegatedTo("someone", 1003)
	must.ErrorIs(t, err, ErrGone)

	// What changes under a running manager is seen at once.
	must.NoError(t, os.WriteFile(filepath.Join(m.dir, manager1001, "cgroup.controllers"), []byte("cpuset cpu io memory pids\n"), 0o644))
	got, err := m.delegatedTo("someone", 1001)
	must.NoError(t, err)
	must.NoError(t, got.Check("cores"))
}

func TestDelegation_Check(t *testing.T) {
	m := unifiedMounts(t)
	user, err := m.delegatedTo("team-a", 1001)
	must.NoError(t, err)
	nobody, err := m.delegatedTo("team-b", 1002)
	must.NoError(t, err)
	root, err := m.delegatedTo("root", 0)
	must.NoError(t, err)
	for option, controller := range controllerOf {
		must.NoError(t, root.Check(option))
		must.ErrorContains(t, nobody.Check(option), option+` needs the cgroup controller "`+controller+`", which is not delegated to host user team-b`)
		if option != "cores" {
			must.NoError(t, user.Check(option))
		}
	}
	err = user.Check("cores")
	must.ErrorContains(t, err, `cores needs the cgroup controller "cpuset", which is not delegated to host user team-a`)
	must.ErrorContains(t, err, "Delegate=cpu cpuset io memory pids")
	must.ErrorContains(t, err, "systemctl set-property --runtime user@1001.service CPUWeight=100")

	root.Controllers = []string{"cpu"}
	must.ErrorContains(t, root.Check("memory"), "cgroup_enable=memory")
}

func TestFindDelegation(t *testing.T) {
	m := unifiedMounts(t)
	delegate := func(controllers string) finding.Finding {
		must.NoError(t, os.WriteFile(filepath.Join(m.dir, manager1001, "cgroup.controllers"), []byte(controllers), 0o644))
		return m.findDelegation("team-a", 1001)
	}
	for _, test := range []struct {
		controllers string
		status      finding.Status
		seen, why   string
	}{
		{"cpuset cpu io memory pids\n", finding.OK, "cpuset cpu io memory pids", ""},
		{"cpu memory pids\n", finding.Warn, "cpuset, io not delegated to host user team-a", "no cores can be reserved, reads and writes are not measured"},
		{"cpuset cpu memory pids\n", finding.Warn, "io not delegated to host user team-a", "reads and writes are not measured"},
		{"cpuset cpu io pids\n", finding.Fail, "memory not delegated to host user team-a", "no limit of these holds"},
		{"\n", finding.Fail, "memory, cpu, pids not delegated to host user team-a", "no limit of these holds"},
	} {
		f := delegate(test.controllers)
		must.Eq(t, test.status, f.Status)
		must.Eq(t, test.seen, f.Seen)
		must.Eq(t, test.why, f.Why)
		if test.status != finding.OK {
			must.True(t, f.Remedy.Safe)
			must.Eq(t, []string{
				"mkdir -p /etc/systemd/system/user@.service.d",
				`printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/50-nomad-driver-podman.conf`,
				"systemctl daemon-reload",
				"systemctl set-property --runtime user@1001.service CPUWeight=100",
			}, f.Remedy.Commands)
		}
	}
	must.Eq(t, finding.OK, m.findDelegation("root", 0).Status)
	gone := m.findDelegation("team-c", 1003)
	must.Eq(t, finding.Skipped, gone.Status)
	must.StrContains(t, gone.Seen, "user@1003.service")
}

func TestLegacyModes(t *testing.T) {
	for _, mode := range []Mode{Legacy, Hybrid} {
		t.Run(mode.String(), func(t *testing.T) {
			m := legacyMounts(t, mode)
			must.ErrorContains(t, m.findMode(true).Err(), "systemd.unified_cgroup_hierarchy=1")
			must.ErrorContains(t, m.findMode(true).Err(), mode.String())
			must.Eq(t, finding.Warn, m.findMode(false).Status)
			must.Eq(t, finding.Skipped, m.findDelegation("team-a", 1001).Status)
			must.StrContains(t, m.findDelegation("root", 0).Seen, "cpuset not offered by this host's kernel")
			_, err := m.delegatedTo("team-a", 1001)
			must.ErrorContains(t, err, "rootful socket")

			// root's containers have the limits of cgroup v1.
			root, err := m.delegatedTo("root", 0)
			must.NoError(t, err)
			must.Eq(t, []string{"cpu", "memory", "pids"}, root.Controllers)
			must.NoError(t, root.Check("memory"))
			must.ErrorContains(t, root.Check("cores"), "cgroup_enable=cpuset")
			must.NotEq(t, "", root.Mode.Unmeasured())
		})
	}
	must.NoError(t, unifiedMounts(t).findMode(true).Err())
	must.Eq(t, "", Unified.Unmeasured())

	_, err := legacyMounts(t, Legacy).hierarchy()
	must.ErrorIs(t, err, ErrNoHierarchy)

	// A hybrid host measures the CPU time, and says that it is all.
	h, err := legacyMounts(t, Hybrid).hierarchy()
	must.NoError(t, err)
	r, err := h.Open("/machine.slice/libpod-1.scope")
	must.NoError(t, err)
	var s Stats
	must.NoError(t, r.Read(&s))
	must.Eq(t, CPUTime, s.Measured)
	must.Eq(t, 7000, s.CPUTotal.Nanoseconds())
	must.NoError(t, r.Close())
}
