package driver

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/nomad/client/stats"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/cgroupv2"
)

// TaskStats streams what a task uses, read from its cgroup's files. podman is not asked. A sample that would say about
// the same as the one before, because the task does nothing, is sent every ten seconds only: Nomad keeps the last one.
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
			usage, err := sampler.sample(time.Now())
			if err != nil {
				if !errors.Is(err, cgroupv2.ErrGone) {
					d.logger.Warn("reading a task's usage", "task", id, "error", err)
				}
				return
			}
			if usage != nil {
				select {
				case usages <- usage:
				case <-ctx.Done():
					return
				case <-task.ended():
					return
				}
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
	still               bool      // no processor time was used between the last two samples
	round               time.Time // the multiple of sendInterval at or before the last sample
	used                time.Time // of the last sample that found processor time used
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

const (
	// lookInterval is how often a sample is a whole look, for the record of an end that the kernel does not announce. While a task
	// uses no processor time, that is idleLookInterval, after two looks which leave what it did before behind.
	lookInterval     = 10 * time.Second
	idleLookInterval = time.Minute
	// sendInterval is how often also what has not changed is sent: once in each interval for which Nomad 1.6 gathers metrics,
	// which begin at its multiples (go-metrics' InmemSink in command/agent).
	sendInterval = 10 * time.Second
)

// measure reads the cgroup. It returns true when nothing has changed since the sample before.
func (s *sampler) measure(at time.Time) (same bool, err error) {
	idle := false
	if s.still {
		if idle, err = s.cgroup.Idle(&s.last); err != nil {
			return false, err
		}
	}
	round := at.Truncate(sendInterval)
	if idle && round.Equal(s.round) {
		return true, nil
	}
	s.round = round
	before := s.last.CPUTotal
	if err := s.read(at, idle); err != nil {
		return false, err
	}
	if s.still = s.last.CPUTotal == before; !s.still {
		s.used = at
	}
	return false, nil
}

func (s *sampler) read(at time.Time, idle bool) error {
	pause := lookInterval
	if idle && s.looked.Sub(s.used) >= 2*lookInterval {
		pause = idleLookInterval
	}
	if at.Sub(s.looked) >= pause {
		s.looked = at
		if s.cgroup.Look() == nil {
			look, _ := s.cgroup.Looks()
			s.last = look.Stats
			return nil
		}
	}
	return s.cgroup.Read(&s.last)
}

// sample is nil when it would be the same as the one before.
func (s *sampler) sample(at time.Time) (*drivers.TaskResourceUsage, error) {
	same, err := s.measure(at)
	if err != nil {
		return nil, err
	}
	now := &s.last
	// They are of the time since the last call, so that none may be left out.
	percent := s.total.Percent(float64(now.CPUTotal.Nanoseconds()))
	user := s.user.Percent(float64(now.CPUUser.Nanoseconds()))
	system := s.system.Percent(float64(now.CPUSystem.Nanoseconds()))
	if same {
		return nil, nil
	}
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
	return &drivers.TaskResourceUsage{
		Timestamp: at.UnixNano(),
		ResourceUsage: &drivers.ResourceUsage{
			CpuStats: &drivers.CpuStats{
				SystemMode:       system,
				UserMode:         user,
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
