package driver

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/nomad/client/stats"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/cgroupv2"
)

// TaskStats streams what a task uses, read from its cgroup's files. podman is not asked.
func (d *Driver) TaskStats(ctx context.Context, id string, interval time.Duration) (<-chan *drivers.TaskResourceUsage, error) {
	task, found := d.tasks.get(id)
	if !found {
		return nil, drivers.ErrTaskNotFound
	}
	usages := make(chan *drivers.TaskResourceUsage)
	go func() {
		defer close(usages)
		select {
		case <-task.taken:
		case <-ctx.Done():
			return
		}
		if task.cgroup == nil {
			return // it ended before it could be measured
		}
		sampler := newSampler(task.cgroup)
		timer := time.NewTimer(untilNextSample(time.Now(), interval))
		defer timer.Stop()
		for {
			usage, err := sampler.sample()
			if err != nil {
				if !errors.Is(err, cgroupv2.ErrGone) {
					d.logger.Warn("reading a task's usage", "task", id, "error", err)
				}
				return
			}
			select {
			case usages <- usage:
			case <-ctx.Done():
				return
			case <-task.ended():
				return
			}
			select {
			case <-timer.C:
				timer.Reset(untilNextSample(time.Now(), interval))
			case <-ctx.Done():
				return
			case <-task.ended():
				return
			}
		}
	}()
	return usages, nil
}

// untilNextSample is the time to the next multiple of the interval but the nearest. All tasks are sampled at the same
// moment, so that driver and agent wake once for all of them, and the samples go to the agent in few packets: apart, a sample
// takes fifteen times as much processor time. The nearest multiple counts as the present one, which a timer that is a little
// early or late has meant.
func untilNextSample(now time.Time, interval time.Duration) time.Duration {
	return now.Round(interval).Add(interval).Sub(now)
}

// sampler makes Nomad's figures of a cgroup's.
type sampler struct {
	cgroup              *cgroupv2.Reader
	total, user, system *stats.CpuStats
	last                cgroupv2.Stats
	looked              time.Time // when the cgroup was looked at whole
}

func newSampler(cgroup *cgroupv2.Reader) *sampler {
	return &sampler{cgroup: cgroup, total: stats.NewCpuStats(), user: stats.NewCpuStats(), system: stats.NewCpuStats()}
}

// memoryFields and cpuFields are the names that Nomad's command line knows, by what a host must measure for each.
var (
	memoryFields = []struct {
		field cgroupv2.Field
		name  string
	}{
		{cgroupv2.MemoryBreakdown, "RSS"},
		{cgroupv2.MemoryBreakdown, "Cache"},
		{cgroupv2.SwapUsage, "Swap"},
		{cgroupv2.MemoryBreakdown, "Mapped File"},
		{cgroupv2.MemoryUsage, "Usage"},
		{cgroupv2.MemoryPeak, "Max Usage"},
	}
	cpuFields = []struct {
		field cgroupv2.Field
		name  string
	}{
		{cgroupv2.CPUTime, "System Mode"},
		{cgroupv2.CPUTime, "User Mode"},
		{cgroupv2.CPUTime, "Percent"},
		{cgroupv2.CPUThrottling, "Throttled Periods"},
		{cgroupv2.CPUThrottling, "Throttled Time"},
	}
)

// lookInterval is how often a sample is a whole look, for the record of an end that the kernel does not announce.
const lookInterval = 10 * time.Second

func (s *sampler) sample() (*drivers.TaskResourceUsage, error) {
	looked := false
	if time.Since(s.looked) >= lookInterval {
		s.looked = time.Now()
		if looked = s.cgroup.Look() == nil; looked {
			last, _ := s.cgroup.Looks()
			s.last = last.Stats
		}
	}
	if !looked {
		if err := s.cgroup.Read(&s.last); err != nil {
			return nil, err
		}
	}
	now := &s.last
	var cpuMeasured, memoryMeasured []string
	for _, field := range cpuFields {
		if now.Has(field.field) {
			cpuMeasured = append(cpuMeasured, field.name)
		}
	}
	for _, field := range memoryFields {
		if now.Has(field.field) {
			memoryMeasured = append(memoryMeasured, field.name)
		}
	}
	percent := s.total.Percent(float64(now.CPUTotal.Nanoseconds()))
	return &drivers.TaskResourceUsage{
		Timestamp: time.Now().UnixNano(),
		ResourceUsage: &drivers.ResourceUsage{
			CpuStats: &drivers.CpuStats{
				SystemMode:       s.system.Percent(float64(now.CPUSystem.Nanoseconds())),
				UserMode:         s.user.Percent(float64(now.CPUUser.Nanoseconds())),
				Percent:          percent,
				TotalTicks:       s.total.TicksConsumed(percent),
				ThrottledPeriods: now.ThrottledPeriods,
				ThrottledTime:    uint64(now.ThrottledTime.Nanoseconds()), //nolint:gosec // not negative
				Measured:         cpuMeasured,
			},
			MemoryStats: &drivers.MemoryStats{
				RSS:        now.Anon,
				Cache:      now.File,
				Swap:       now.Swap,
				MappedFile: now.FileMapped,
				Usage:      now.Memory,
				MaxUsage:   now.MemoryPeak,
				Measured:   memoryMeasured,
			},
		},
	}, nil
}
