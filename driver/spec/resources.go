package spec

import (
	"fmt"
	"slices"

	runtime "github.com/opencontainers/runtime-spec/specs-go"
)

// Range of cgroup v1 CPU shares, which the OCI runtime turns into a cgroup v2 weight (crun(1), "cpu controller").
const (
	minShares = 2
	maxShares = 262144
)

const mebibyte = 1 << 20

// resources are the limits. On a rootless endpoint only controllers that are delegated to its user can hold them.
func resources(spec *Spec, in Input) error {
	if in.Task.Resources == nil || in.Task.Resources.NomadResources == nil {
		return nil
	}
	limits := &runtime.LinuxResources{}
	spec.ResourceLimits = limits
	delegated := func(controller string) bool { return !in.Rootless || slices.Contains(in.Controllers, controller) }
	missing := func(option, controller string) string {
		return fmt.Sprintf("%s is not applied: the cgroup controller %q is not delegated to the host user (Delegate= of user@.service)", option, controller)
	}

	memory := in.Task.Resources.NomadResources.Memory
	switch {
	case memory.MemoryMB == 0:
	case delegated("memory"):
		limits.Memory = memoryLimits(memory.MemoryMB, memory.MemoryMaxMB)
	default:
		spec.Warnings = append(spec.Warnings, missing("memory", "memory"))
	}

	cpu := in.Task.Resources.NomadResources.Cpu
	switch {
	case cpu.CpuShares == 0:
	case delegated("cpu"):
		shares := uint64(min(max(cpu.CpuShares, minShares), maxShares))
		limits.CPU = &runtime.LinuxCPU{Shares: &shares}
	default:
		spec.Warnings = append(spec.Warnings, missing("cpu", "cpu"))
	}

	// NomadResources.Cpu.ReservedCores does not reach plugins.
	cpus := ""
	if linux := in.Task.Resources.LinuxResources; linux != nil {
		cpus = linux.CpusetCpus
	}
	if cpus != "" && !delegated("cpuset") {
		return fmt.Errorf("resources: %s", missing("cores", "cpuset"))
	}
	if cpus == "" && delegated("cpuset") {
		cpus = in.SharedCPUs
	}
	if cpus != "" {
		if limits.CPU == nil {
			limits.CPU = &runtime.LinuxCPU{}
		}
		limits.CPU.Cpus = cpus
	}
	return nil
}

// memoryLimits makes limits in bytes of Nomad's MiB. With memory_max the task may use that much, and memory is what
// it is left with when the host runs short; -1 means no limit.
func memoryLimits(memoryMB, maxMB int64) *runtime.LinuxMemory {
	memory := memoryMB * mebibyte
	switch {
	case maxMB < 0:
		return &runtime.LinuxMemory{Reservation: &memory}
	case maxMB > memoryMB:
		limit := maxMB * mebibyte
		return &runtime.LinuxMemory{Reservation: &memory, Limit: &limit}
	}
	return &runtime.LinuxMemory{Limit: &memory}
}
