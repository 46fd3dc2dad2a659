package driver

import (
	"testing"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
)

func TestSharedCgroup(t *testing.T) {
	h := cgroupv2.Hierarchy{Root: "/sys/fs/cgroup"}
	for name, test := range map[string]struct{ path, cores, want string }{
		"Nomad 1.6":          {path: "/sys/fs/cgroup/nomad.slice/a.t.scope", want: "/nomad.slice/a.t.scope"},
		"Nomad 1.7":          {path: "/sys/fs/cgroup/nomad.slice/share.slice/a.t.scope", want: "/nomad.slice/share.slice/a.t.scope"},
		"with cores":         {path: "/sys/fs/cgroup/nomad.slice/reserve.slice/a.t.scope", cores: "1"},
		"an agent of a user": {},
		"elsewhere":          {path: "/sys/fs/cgroups/nomad/a.t"},
	} {
		t.Run(name, func(t *testing.T) {
			must.Eq(t, test.want, sharedCgroup(&drivers.TaskConfig{Resources: &drivers.Resources{
				LinuxResources: &drivers.LinuxResources{CpusetCgroupPath: test.path, CpusetCpus: test.cores},
			}}, h))
		})
	}
	must.Eq(t, "", sharedCgroup(&drivers.TaskConfig{}, h))
}
