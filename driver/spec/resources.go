package spec

import (
	"runtime"

	"github.com/hashicorp/nomad/plugins/drivers"
	oci "github.com/opencontainers/runtime-spec/specs-go"

	"nomad-driver-podman/cgroupv2"
)

// Range of cgroup v1 CPU shares, which the OCI runtime turns into a cgroup v2 weight (crun(1), "cpu controller").
const (
	minShares = 2
	maxShares = 262144
)

// minQuota is the least quota that the kernel takes, in microseconds (kernel/sched/core.c, tg_set_cfs_bandwidth).
const minQuota = 1000

// resources are the limits. Each needs a cgroup controller. Without it, what the job asks for fails the task, and cpu and
// memory, which Nomad has every job ask for, do so where the agent's configuration says it.
func resources(spec *Spec, in Input) error {
	if in.Task.Resources == nil || in.Task.Resources.NomadResources == nil || in.Task.Resources.LinuxResources == nil {
		return nil
	}
	spec.ResourceLimits = &oci.LinuxResources{}
	for _, limit := range []func(*Spec, Input) error{cpu, memory, pids} {
		if err := limit(spec, in); err != nil {
			return err
		}
	}
	return nil
}

// holds tells whether an option that every job has can be applied.
func holds(spec *Spec, in Input, option string) (bool, error) {
	err := in.Delegation.Check(option)
	if err != nil && !in.RequireDelegation {
		spec.Warnings = append(spec.Warnings, "Not applied: "+err.Error())
		return false, nil
	}
	return err == nil, err
}

func cpu(spec *Spec, in Input) error {
	limits := &oci.LinuxCPU{}
	spec.ResourceLimits.CPU = limits
	if ok, err := holds(spec, in, "cpu"); err != nil {
		return err
	} else if ok {
		shares := cpuShares(in.Task.Resources)
		limits.Shares = &shares
	}
	// NomadResources.Cpu.ReservedCores does not reach plugins.
	if cores := in.Task.Resources.LinuxResources.CpusetCpus; cores != "" {
		if err := in.Delegation.Check("cores"); err != nil {
			return err
		}
		limits.Cpus = cores
	} else if in.Delegation.Check("cores") == nil {
		limits.Cpus = in.SharedCPUs
	}
	if in.Config.CPUHardLimit {
		if err := in.Delegation.Check("cpu_hard_limit"); err != nil {
			return err
		}
		period := uint64(in.Config.CPUCFSPeriod) //nolint:gosec // checked to be in the kernel's range
		quota := cpuQuota(in.Task.Resources, period, runtime.NumCPU())
		limits.Period, limits.Quota = &period, &quota
	}
	return nil
}

// cpuShares are Nomad's MHz as shares. Where the node has more MHz than there are shares they are scaled, so that the
// tasks' relation stays.
func cpuShares(resources *drivers.Resources) uint64 {
	shares := float64(resources.NomadResources.Cpu.CpuShares)
	if part := resources.LinuxResources.PercentTicks; part > 0 && shares/part > maxShares {
		shares = maxShares * part
	}
	return uint64(min(max(shares, minShares), maxShares))
}

// cpuQuota is the CPU time in a period, both in microseconds, that the task's part of the node's MHz comes to.
func cpuQuota(resources *drivers.Resources, period uint64, cores int) int64 {
	return max(int64(resources.LinuxResources.PercentTicks*float64(period)*float64(cores)), minQuota)
}

func memory(spec *Spec, in Input) error {
	limits := &oci.LinuxMemory{}
	spec.ResourceLimits.Memory = limits
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"memory_max", in.Task.Resources.NomadResources.Memory.MemoryMaxMB > 0},
		{"memory_hard_limit", in.Config.MemoryHardLimit > 0},
		{"memory_reservation", in.Config.MemoryReserved != ""},
		{"memory_swap", in.Config.MemorySwap != ""},
	} {
		if option.set {
			if err := in.Delegation.Check(option.name); err != nil {
				return err
			}
		}
	}
	if swappiness := in.Config.MemorySwappiness; swappiness != nil {
		if in.Delegation.Mode == cgroupv2.Unified {
			spec.Warnings = append(spec.Warnings, `Not applied: config option "memory_swappiness", which cgroup v2 does not have`)
		} else {
			value := uint64(*swappiness) //nolint:gosec // checked to be from 0 to 100
			limits.Swappiness = &value
		}
	}
	ok, err := holds(spec, in, "memory")
	if !ok {
		return err
	}
	asked := in.Config.Memory
	limits.Limit, limits.Reservation, limits.Swap = unlessZero(asked.Limit), unlessZero(asked.Reservation), unlessZero(asked.Swap)
	return nil
}

func unlessZero(bytes int64) *int64 {
	if bytes == 0 {
		return nil
	}
	return &bytes
}

func pids(spec *Spec, in Input) error {
	limit := in.Config.PIDsLimit
	if err := in.Delegation.Check("pids_limit"); err != nil {
		if limit > 0 {
			return err
		}
		// Neither podman's default nor "no limit": the runtime can set nothing.
		spec.ResourceLimits.Pids = &oci.LinuxPids{Limit: 0}
		return nil
	}
	if limit != 0 {
		spec.ResourceLimits.Pids = &oci.LinuxPids{Limit: limit}
	}
	return nil
}
