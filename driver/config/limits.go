package config

import (
	"fmt"
	"math"
	"strings"

	"github.com/docker/go-units"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// Periods of the CPU controller, in microseconds: the kernel's default and range (cgroup-v2.rst, "cpu.max", and
// kernel/sched/core.c, tg_set_cfs_bandwidth).
const (
	defaultCFSPeriod = 100000
	minCFSPeriod     = 1000
	maxCFSPeriod     = 1000000
)

// Memory are a task's memory limits, in bytes; 0 is none.
type Memory struct {
	Limit       int64 // at most so much
	Reservation int64 // what it is left with when the host runs short
	Swap        int64 // Limit and swap together; -1: as much swap as there is
}

// parseLimits checks the options that are limits, and their relations to the task's resources.
func (t *Task) parseLimits(cfg *drivers.TaskConfig, wrong func(option, format string, args ...any)) {
	switch {
	case t.CPUCFSPeriod < 0 || t.CPUCFSPeriod > maxCFSPeriod:
		wrong("cpu_cfs_period", "%d is not a number of microseconds from %d to %d", t.CPUCFSPeriod, minCFSPeriod, maxCFSPeriod)
	case t.CPUCFSPeriod == 0:
		t.CPUCFSPeriod = defaultCFSPeriod
	case t.CPUCFSPeriod < minCFSPeriod:
		t.warn("cpu_cfs_period", "%d microseconds are less than the kernel takes; %d hold", t.CPUCFSPeriod, minCFSPeriod)
		t.CPUCFSPeriod = minCFSPeriod
	}
	if t.MemorySwappiness != nil && (*t.MemorySwappiness < 0 || *t.MemorySwappiness > 100) {
		wrong("memory_swappiness", "%d is not from 0 to 100", *t.MemorySwappiness)
	}
	if t.PIDsLimit < -1 {
		wrong("pids_limit", "%d is not a number of processes; -1 means no limit", t.PIDsLimit)
	}
	reservation, err := parseBytes(t.MemoryReserved)
	if err != nil {
		wrong("memory_reservation", "%w", err)
	}
	swap, err := parseBytes(t.MemorySwap)
	if err != nil {
		wrong("memory_swap", "%w", err)
	}
	if cfg.Resources == nil || cfg.Resources.NomadResources == nil {
		return
	}
	const megabyte = 1 << 20 // as Nomad counts
	asked := cfg.Resources.NomadResources.Memory
	if asked.MemoryMB < 0 || asked.MemoryMaxMB < -1 {
		wrong("resources", "memory = %d, memory_max = %d: must not be negative (memory_max = -1 means no limit)", asked.MemoryMB, asked.MemoryMaxMB)
	}
	if most := max(asked.MemoryMB, asked.MemoryMaxMB, t.MemoryHardLimit); most > math.MaxInt64/megabyte {
		wrong("resources", "%d MB of memory are more than there can be", most)
		return
	}
	if t.MemoryHardLimit != 0 && t.MemoryHardLimit < asked.MemoryMB {
		wrong("memory_hard_limit", "%d is less than the task's memory (%d)", t.MemoryHardLimit, asked.MemoryMB)
	}
	t.Memory = Memory{Limit: asked.MemoryMB * megabyte, Swap: swap}
	switch most := max(asked.MemoryMaxMB, t.MemoryHardLimit); {
	case most > asked.MemoryMB:
		t.Memory.Limit, t.Memory.Reservation = most*megabyte, asked.MemoryMB*megabyte
	case asked.MemoryMaxMB == -1 && t.MemoryHardLimit == 0:
		t.Memory.Limit, t.Memory.Reservation = 0, asked.MemoryMB*megabyte
	}
	if reservation > 0 && (t.Memory.Reservation == 0 || reservation < t.Memory.Reservation) {
		t.Memory.Reservation = reservation
	}
	switch {
	case swap > 0 && t.Memory.Limit == 0:
		wrong("memory_swap", "%s needs a memory limit, which memory_max = -1 takes away", t.MemorySwap)
	case swap > 0 && swap < t.Memory.Limit:
		wrong("memory_swap", "%s is less than the task's memory limit (%d MB); it counts memory and swap together", t.MemorySwap, t.Memory.Limit/megabyte)
	}
}

func (t *Task) warn(option, format string, args ...any) {
	t.Warnings = append(t.Warnings, fmt.Sprintf("config option %q: "+format, append([]any{option}, args...)...))
}

// parseBytes takes sizes such as "64m", "1.5G" and bare bytes, with -1 for no limit; none is 0.
func parseBytes(text string) (int64, error) {
	text = strings.TrimSpace(text)
	switch text {
	case "":
		return 0, nil
	case "-1":
		return -1, nil
	}
	bytes, err := units.RAMInBytes(text)
	if err != nil || bytes < 0 {
		return 0, fmt.Errorf("%q is not a size such as \"128m\" or \"2g\", a number of bytes, or -1", text)
	}
	return bytes, nil
}
