package spec

import (
	"testing"

	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/sockets"
)

// input is a task with one port, on a rootless endpoint with the controllers that systemd delegates by default.
func input(change func(*Input)) Input {
	in := Input{
		Task: &drivers.TaskConfig{
			Name: "redis", AllocID: "a1", NodeID: "n1",
			Env: map[string]string{"A": "b"},
			Resources: &drivers.Resources{
				NomadResources: &structs.AllocatedTaskResources{
					Cpu:    structs.AllocatedCpuResources{CpuShares: 500},
					Memory: structs.AllocatedMemoryResources{MemoryMB: 64},
				},
				LinuxResources: &drivers.LinuxResources{PercentTicks: 0.25},
				Ports:          &structs.AllocatedPorts{{Label: "db", Value: 24000, To: 6379, HostIP: "127.0.0.1"}, {Label: "same", Value: 24001, HostIP: "127.0.0.1"}},
			},
		},
		Config:     &config.Task{Image: "docker://redis", Memory: config.Memory{Limit: 64 << 20}},
		Rootless:   true,
		Delegation: cgroupv2.Delegation{User: "team-a", UID: 2001, Mode: cgroupv2.Unified, Controllers: []string{"cpu", "memory", "pids"}},
	}
	if change != nil {
		change(&in)
	}
	return in
}

func build(t *testing.T, change func(*Input)) *Spec {
	t.Helper()
	spec, err := Build(input(change))
	must.NoError(t, err)
	return spec
}

func TestIdentity(t *testing.T) {
	spec := build(t, func(in *Input) {
		in.Config.Labels = map[string]string{"mine": "1", LabelAllocID: "forged"}
	})
	must.Eq(t, "redis-a1", spec.Name)
	must.Eq(t, "docker.io/library/redis:latest", spec.Image)
	must.Eq(t, map[string]string{"mine": "1", LabelAllocID: "a1", LabelTaskName: "redis", LabelNodeID: "n1"}, spec.Labels)
}

func TestCommand(t *testing.T) {
	must.SliceEmpty(t, build(t, nil).Command)
	must.Eq(t, []string{"-v"}, build(t, func(in *Input) { in.Config.Args = []string{"-v"} }).Command)
	must.Eq(t, []string{"ls", "-l"}, build(t, func(in *Input) { in.Config.Command, in.Config.Args = "ls", []string{"-l"} }).Command)
}

// What is left out of a request comes from the host user's containers.conf, so no mode may be.
func TestEveryModeIsGiven(t *testing.T) {
	spec := build(t, nil)
	for name, namespace := range map[string]specgen.Namespace{"pid": spec.PidNS, "ipc": spec.IpcNS, "uts": spec.UtsNS, "cgroup": spec.CgroupNS, "user": spec.UserNS, "net": spec.NetNS} {
		must.NotEq(t, "", string(namespace.NSMode), must.Sprint(name))
	}
	must.Eq(t, "enabled", spec.CgroupsMode)
	must.Positive(t, spec.LogConfiguration.Size)
	must.NotEq(t, "", spec.Umask)
}

func TestLogging(t *testing.T) {
	journald := config.Logging{Driver: "journald", Options: map[string]string{"tag": "x"}}
	disabled := func(in *Input) { in.Task.StdoutPath, in.Task.StderrPath = "/dev/null", "/dev/null" }
	for name, test := range map[string]struct {
		change func(*Input)
		want   specgen.LogConfig
	}{
		"default":              {nil, specgen.LogConfig{Driver: "k8s-file", Size: followedLogSize}},
		"nomad":                {func(in *Input) { in.Logging.Driver = "nomad" }, specgen.LogConfig{Driver: "k8s-file", Size: followedLogSize}},
		"journald":             {func(in *Input) { in.Logging = journald }, specgen.LogConfig{Driver: "journald", Options: journald.Options}},
		"disabled":             {disabled, specgen.LogConfig{Driver: "none"}},
		"disabled, journald":   {func(in *Input) { disabled(in); in.Logging = journald }, specgen.LogConfig{Driver: "journald", Options: journald.Options}},
		"disabled on the node": {func(in *Input) { in.Uncollected = true }, specgen.LogConfig{Size: unfollowedLogSize}},
		"disabled twice":       {func(in *Input) { disabled(in); in.Uncollected = true }, specgen.LogConfig{Driver: "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			must.Eq(t, test.want, *build(t, test.change).LogConfiguration)
		})
	}
}

func TestVerify(t *testing.T) {
	container := &sockets.Container{}
	must.NoError(t, build(t, nil).Verify(container))
	container.HostConfig.Privileged = true
	must.ErrorContains(t, build(t, nil).Verify(container), "containers.conf")
	must.NoError(t, build(t, func(in *Input) { in.Config.Privileged = true }).Verify(container))
}

func TestLimits(t *testing.T) {
	spec := build(t, nil)
	must.Eq(t, 500, *spec.ResourceLimits.CPU.Shares)
	must.Eq(t, "", spec.ResourceLimits.CPU.Cpus)
	must.Nil(t, spec.ResourceLimits.CPU.Quota)
	must.Eq(t, 64<<20, *spec.ResourceLimits.Memory.Limit)
	must.Nil(t, spec.ResourceLimits.Memory.Reservation)
	must.Nil(t, spec.ResourceLimits.Memory.Swap)
	must.Nil(t, spec.ResourceLimits.Pids)
	must.SliceEmpty(t, spec.Warnings)

	memory := build(t, func(in *Input) {
		in.Config.Memory = config.Memory{Reservation: 5, Swap: -1}
	}).ResourceLimits.Memory
	must.Nil(t, memory.Limit)
	must.Eq(t, 5, *memory.Reservation)
	must.Eq(t, -1, *memory.Swap)

	must.Eq(t, 7, build(t, func(in *Input) { in.Config.PIDsLimit = 7 }).ResourceLimits.Pids.Limit)
	must.Eq(t, -1, build(t, func(in *Input) { in.Config.PIDsLimit = -1 }).ResourceLimits.Pids.Limit)
}

func TestCPUShares(t *testing.T) {
	for name, test := range map[string]struct {
		mhz  int64
		part float64 // of the node
		want uint64
	}{
		"as they are":               {500, 0.25, 500},
		"the least":                 {1, 0.01, minShares},
		"all of the largest node":   {300000, 1, maxShares},
		"half of a larger node":     {300000, 0.5, maxShares / 2},
		"little of a larger node":   {6, 0.00001, 2},
		"the node's size not known": {300000, 0, maxShares},
	} {
		t.Run(name, func(t *testing.T) {
			spec := build(t, func(in *Input) {
				in.Task.Resources.NomadResources.Cpu.CpuShares, in.Task.Resources.LinuxResources.PercentTicks = test.mhz, test.part
			})
			must.Eq(t, test.want, *spec.ResourceLimits.CPU.Shares)
		})
	}
}

func TestCPUHardLimit(t *testing.T) {
	limits := build(t, func(in *Input) { in.Config.CPUHardLimit, in.Config.CPUCFSPeriod = true, 50000 }).ResourceLimits.CPU
	must.Eq(t, 50000, *limits.Period)

	part := func(part float64) *drivers.Resources {
		return &drivers.Resources{LinuxResources: &drivers.LinuxResources{PercentTicks: part}}
	}
	must.Eq(t, 100000, cpuQuota(part(0.25), 100000, 4))
	must.Eq(t, 12500, cpuQuota(part(0.0625), 50000, 4))
	must.Eq(t, minQuota, cpuQuota(part(0.0001), 100000, 4))
}

func TestSwappiness(t *testing.T) {
	swappiness := int64(0)
	spec := build(t, func(in *Input) { in.Config.MemorySwappiness = &swappiness })
	must.Nil(t, spec.ResourceLimits.Memory.Swappiness)
	must.Len(t, 1, spec.Warnings)
	must.StrContains(t, spec.Warnings[0], "memory_swappiness")
	spec = build(t, func(in *Input) { in.Config.MemorySwappiness, in.Delegation.Mode = &swappiness, cgroupv2.Hybrid })
	must.Eq(t, 0, *spec.ResourceLimits.Memory.Swappiness)
	must.SliceEmpty(t, spec.Warnings)
}

func TestLimitsWithoutDelegation(t *testing.T) {
	nothing := func(in *Input) { in.Delegation.Controllers = nil }
	spec := build(t, nothing)
	must.Nil(t, spec.ResourceLimits.CPU.Shares)
	must.Nil(t, spec.ResourceLimits.Memory.Limit)
	must.Len(t, 2, spec.Warnings)
	must.StrContains(t, spec.Warnings[0], `Not applied: cpu needs the cgroup controller "cpu", which is not delegated to host user team-a`)
	must.StrContains(t, spec.Warnings[1], `Not applied: memory needs the cgroup controller "memory"`)
	must.Eq(t, 0, spec.ResourceLimits.Pids.Limit)
	must.Eq(t, 0, build(t, func(in *Input) { nothing(in); in.Config.PIDsLimit = -1 }).ResourceLimits.Pids.Limit)

	for option, set := range map[string]func(*Input){
		"cpu":                func(in *Input) { in.RequireDelegation = true },
		"memory":             func(in *Input) { in.RequireDelegation, in.Delegation.Controllers = true, []string{"cpu"} },
		"cores":              func(in *Input) { in.Task.Resources.LinuxResources.CpusetCpus = "1,3" },
		"cpu_hard_limit":     func(in *Input) { in.Config.CPUHardLimit = true },
		"memory_max":         func(in *Input) { in.Task.Resources.NomadResources.Memory.MemoryMaxMB = 128 },
		"memory_hard_limit":  func(in *Input) { in.Config.MemoryHardLimit = 128 },
		"memory_reservation": func(in *Input) { in.Config.MemoryReserved = "1m" },
		"memory_swap":        func(in *Input) { in.Config.MemorySwap = "-1" },
		"pids_limit":         func(in *Input) { in.Config.PIDsLimit = 10 },
	} {
		t.Run(option, func(t *testing.T) {
			_, err := Build(input(func(in *Input) { nothing(in); set(in) }))
			must.ErrorContains(t, err, option+" needs the cgroup controller")
		})
	}
}

func TestCores(t *testing.T) {
	spec := build(t, func(in *Input) {
		in.Task.Resources.LinuxResources.CpusetCpus = "1,3"
		in.Delegation.Controllers = append(in.Delegation.Controllers, "cpuset")
	})
	must.Eq(t, "1,3", spec.ResourceLimits.CPU.Cpus)
}

// A task with cores has those, another the ones that nobody has reserved, where that can be.
func TestProcessors(t *testing.T) {
	for name, test := range map[string]struct {
		controllers         []string
		cores, shared, want string
	}{
		"cores":         {[]string{"cpu", "cpuset"}, "1,3", "", "1,3"},
		"no cores":      {[]string{"cpu", "cpuset"}, "", "0,2", "0,2"},
		"not delegated": {[]string{"cpu"}, "", "0,2", ""},
		"unknown":       {[]string{"cpu", "cpuset"}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := build(t, func(in *Input) {
				in.Delegation.Controllers, in.SharedCPUs = test.controllers, test.shared
				in.Task.Resources.LinuxResources.CpusetCpus = test.cores
			})
			must.Eq(t, test.want, spec.ResourceLimits.CPU.Cpus)
		})
	}
}

func TestPorts(t *testing.T) {
	spec := build(t, func(in *Input) { in.Config.Ports = []string{"db", "same"} })
	must.Eq(t, map[string]int{"db": 6379, "same": 24001}, spec.PortMap)
	must.Len(t, 4, spec.PortMappings)
	first := spec.PortMappings[0]
	must.Eq(t, "127.0.0.1:24000>6379/tcp", first.HostIP+":24000>6379/"+first.Protocol)
	must.Eq(t, 24000, first.HostPort)
	must.Eq(t, 6379, first.ContainerPort)
	must.SliceEmpty(t, build(t, func(in *Input) { in.Config.Ports, in.Config.NetworkMode = []string{"db"}, "host" }).PortMappings)
}

func TestPortMap(t *testing.T) {
	spec := build(t, func(in *Input) {
		in.Config.PortMap = map[string]int{"db": 6379}
		in.Task.Resources.NomadResources.Networks = structs.Networks{{IP: "10.0.0.1", DynamicPorts: []structs.Port{{Label: "db", Value: 24000}}, ReservedPorts: []structs.Port{{Label: "ui", Value: 80}}}}
	})
	must.Eq(t, map[string]int{"db": 6379, "ui": 80}, spec.PortMap)
	must.Len(t, 4, spec.PortMappings)
}

func TestNetworkModes(t *testing.T) {
	for mode, want := range map[string]specgen.NamespaceMode{"": specgen.Private, "host": specgen.Host, "none": specgen.NoNetwork, "bridge": specgen.Bridge, "pasta:--mtu,1500": specgen.Pasta} {
		spec := build(t, func(in *Input) { in.Config.NetworkMode = mode })
		must.Eq(t, want, spec.NetNS.NSMode)
	}
	spec := build(t, func(in *Input) { in.Config.NetworkMode = "slirp4netns:mtu=1500,cidr=10.0.3.0/24" })
	must.Eq(t, []string{"mtu=1500", "cidr=10.0.3.0/24"}, spec.NetworkOptions["slirp4netns"])

	// The group's namespace wins over the task's mode.
	spec = build(t, func(in *Input) {
		in.Rootless = false
		in.Config.NetworkMode = "host"
		in.Task.NetworkIsolation = &drivers.NetworkIsolationSpec{Mode: drivers.NetIsolationModeGroup, Path: "/run/netns/x"}
	})
	must.Eq(t, specgen.Namespace{NSMode: specgen.Path, Value: "/run/netns/x"}, spec.NetNS)
}

func TestNetworkRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Input)
		says   string
	}{
		"unknown label":   {func(in *Input) { in.Config.Ports = []string{"web"} }, `has no port "web"`},
		"no group ports":  {func(in *Input) { in.Config.Ports, in.Task.Resources.Ports = []string{"db"}, nil }, "needs a network block"},
		"no task network": {func(in *Input) { in.Config.PortMap = map[string]int{"db": 1} }, "needs a network block in the task's resources"},
		"ports of none":   {func(in *Input) { in.Config.Ports, in.Config.NetworkMode = []string{"db"}, "none" }, "cannot publish ports"},
		"rootful pasta":   {func(in *Input) { in.Rootless, in.Config.NetworkMode = false, "pasta" }, "rootless endpoints only"},
		"rootless group":  {func(in *Input) { in.Task.NetworkIsolation = &drivers.NetworkIsolationSpec{Path: "/run/netns/x"} }, "cannot join the group's network namespace"},
		"name server":     {func(in *Input) { in.Task.DNS = &drivers.DNSConfig{Servers: []string{"dns.local"}} }, `"dns.local" is not an IP address`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Build(input(test.change))
			must.ErrorContains(t, err, test.says)
		})
	}
}

func TestMounts(t *testing.T) {
	spec := build(t, func(in *Input) {
		in.Mounts = []config.Mount{{Source: "/a", Destination: "/b"}, {Source: "/c", Destination: "/d", Options: []string{"bind", "ro"}}}
		in.Config.TmpfsMounts = []config.Mount{{Destination: "/run", Options: []string{"size=1m"}}}
	})
	must.Len(t, 3, spec.Mounts)
	must.Eq(t, []string{"rbind"}, spec.Mounts[0].Options)
	must.Eq(t, []string{"bind", "ro"}, spec.Mounts[1].Options)
	must.Eq(t, "tmpfs", spec.Mounts[2].Type)
}
