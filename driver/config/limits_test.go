package config

import (
	"testing"

	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/shoenig/test/must"
)

// parseLimited decodes a config block of a task with these resources.
func parseLimited(t *testing.T, memoryMB, maxMB int64, hcl string) (*Task, error) {
	t.Helper()
	cfg, err := parse(t, TaskSchema(), hclutils.HclConfigToInterface(t, "config {\n image = \"a\"\n"+hcl+"\n}"))
	must.NoError(t, err)
	cfg.Resources.NomadResources.Memory = structs.AllocatedMemoryResources{MemoryMB: memoryMB, MemoryMaxMB: maxMB}
	return DecodeTask(cfg)
}

func TestMemory(t *testing.T) {
	const mb = 1 << 20
	for name, test := range map[string]struct {
		memoryMB, maxMB int64
		hcl             string
		want            Memory
	}{
		"memory":                     {64, 0, "", Memory{Limit: 64 * mb}},
		"memory_max":                 {64, 128, "", Memory{Limit: 128 * mb, Reservation: 64 * mb}},
		"no limit":                   {64, -1, "", Memory{Reservation: 64 * mb}},
		"hard limit":                 {64, 0, "memory_hard_limit = 96", Memory{Limit: 96 * mb, Reservation: 64 * mb}},
		"the greater":                {64, 128, "memory_hard_limit = 96", Memory{Limit: 128 * mb, Reservation: 64 * mb}},
		"the only":                   {64, -1, "memory_hard_limit = 96", Memory{Limit: 96 * mb, Reservation: 64 * mb}},
		"hard limit as memory":       {64, 0, "memory_hard_limit = 64", Memory{Limit: 64 * mb}},
		"reservation":                {64, 0, `memory_reservation = "32m"`, Memory{Limit: 64 * mb, Reservation: 32 * mb}},
		"capital":                    {64, 0, `memory_reservation = "1K"`, Memory{Limit: 64 * mb, Reservation: 1024}},
		"bare":                       {64, 0, `memory_reservation = 4096`, Memory{Limit: 64 * mb, Reservation: 4096}},
		"no reservation":             {64, 128, `memory_reservation = "-1"`, Memory{Limit: 128 * mb, Reservation: 64 * mb}},
		"smaller than memory":        {64, 128, `memory_reservation = "32m"`, Memory{Limit: 128 * mb, Reservation: 32 * mb}},
		"greater than memory":        {64, 128, `memory_reservation = "96m"`, Memory{Limit: 128 * mb, Reservation: 64 * mb}},
		"swap":                       {64, 0, `memory_swap = "0.125G"`, Memory{Limit: 64 * mb, Swap: 128 * mb}},
		"no swap":                    {64, 0, `memory_swap = "64m"`, Memory{Limit: 64 * mb, Swap: 64 * mb}},
		"any swap":                   {64, 0, `memory_swap = -1`, Memory{Limit: 64 * mb, Swap: -1}},
		"any swap without any limit": {64, -1, `memory_swap = "-1"`, Memory{Reservation: 64 * mb, Swap: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := parseLimited(t, test.memoryMB, test.maxMB, test.hcl)
			must.NoError(t, err)
			must.Eq(t, test.want, task.Memory)
			must.SliceEmpty(t, task.Warnings)
		})
	}
}

func TestOtherLimits(t *testing.T) {
	task, err := parseLimited(t, 64, 0, "")
	must.NoError(t, err)
	must.False(t, task.CPUHardLimit)
	must.Eq(t, 100000, task.CPUCFSPeriod)
	must.Nil(t, task.MemorySwappiness)
	must.Zero(t, task.PIDsLimit)

	task, err = parseLimited(t, 64, 0, "cpu_hard_limit = true\n cpu_cfs_period = 500\n memory_swappiness = 0\n pids_limit = -1")
	must.NoError(t, err)
	must.True(t, task.CPUHardLimit)
	must.Eq(t, 1000, task.CPUCFSPeriod)
	must.Len(t, 1, task.Warnings)
	must.StrContains(t, task.Warnings[0], `"cpu_cfs_period": 500`)
	must.Zero(t, *task.MemorySwappiness)
	must.Eq(t, -1, task.PIDsLimit)
}

func TestLimitsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		memoryMB, maxMB int64
		hcl, says       string
	}{
		"memory":             {-1, 0, "", "must not be negative"},
		"memory_max":         {64, -2, "", "must not be negative"},
		"hard limit":         {64, 0, "memory_hard_limit = 32", `"memory_hard_limit": 32 is less than the task's memory (64)`},
		"negative limit":     {64, 0, "memory_hard_limit = -1", `"memory_hard_limit": -1 is less`},
		"reservation":        {64, 0, `memory_reservation = "much"`, `"memory_reservation": "much" is not a size such as "128m"`},
		"negative":           {64, 0, `memory_reservation = "-2m"`, `"memory_reservation": "-2m" is not a size`},
		"unit":               {64, 0, `memory_swap = "1x"`, `"memory_swap": "1x" is not a size`},
		"too many":           {64, 0, `memory_swap = "99999999999g"`, `"memory_swap": "99999999999g" is not a size`},
		"less than memory":   {64, 0, `memory_swap = "32m"`, `"memory_swap": 32m is less than the task's memory limit (64 MB)`},
		"less than the max":  {64, 128, `memory_swap = "96m"`, `"memory_swap": 96m is less than the task's memory limit (128 MB)`},
		"swap without limit": {64, -1, `memory_swap = "1g"`, `"memory_swap": 1g needs a memory limit`},
		"period":             {64, 0, "cpu_cfs_period = 1000001", `"cpu_cfs_period": 1000001 is not a number of microseconds from 1000 to 1000000`},
		"negative period":    {64, 0, "cpu_cfs_period = -1", `"cpu_cfs_period": -1`},
		"swappiness":         {64, 0, "memory_swappiness = 101", `"memory_swappiness": 101 is not from 0 to 100`},
		"no swappiness":      {64, 0, "memory_swappiness = -1", `"memory_swappiness": -1 is not from 0 to 100`},
		"processes":          {64, 0, "pids_limit = -2", `"pids_limit": -2 is not a number of processes`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseLimited(t, test.memoryMB, test.maxMB, test.hcl)
			must.ErrorContains(t, err, test.says)
		})
	}
}
