// Package postmortem keeps what is known about tasks that have ended badly: why, as far as that can be told, what their
// cgroups have said last, and what they have printed last.
package postmortem

import (
	"math"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"nomad-driver-podman/cgroupv2"
)

// Cause is what a task has ended by, in one word.
type Cause string

// The causes.
const (
	OOM     Cause = "oom"        // the kernel has killed it for its memory
	PIDs    Cause = "pids_limit" // it failed after it was at its limit of processes
	Signal  Cause = "signal"     // a signal has ended it
	Exit    Cause = "exit"       // it has ended with an exit code that is not 0
	Image   Cause = "image"      // its image could not be had
	Start   Cause = "start"      // it could not be started for another reason
	Unknown Cause = "unknown"    // it has ended, and nobody knows how
)

// Record is what is known about a run of a task that has ended badly, or about a start that has failed. It is written to
// the state directory, and printed, in this form: names do not change their meaning. What is not known is null or "".
type Record struct {
	// Summary says it in a sentence.
	Summary string `json:"summary"`
	Cause   Cause  `json:"cause"`

	AllocID   string `json:"alloc_id"`
	Task      string `json:"task"`
	Group     string `json:"group"`
	Job       string `json:"job"`
	Namespace string `json:"namespace"`

	// HostUser, UID and Socket are the endpoint; empty when a start has failed before that was known.
	HostUser  string  `json:"host_user"`
	UID       *uint32 `json:"uid"`
	Socket    string  `json:"socket"`
	Image     string  `json:"image"`
	Container string  `json:"container_id"`

	// StartedAt is null when the task did not start.
	StartedAt *time.Time `json:"started_at"`
	EndedAt   time.Time  `json:"ended_at"`

	// Exit is null when the task did not start, or nobody knows how it ended.
	Exit *Status `json:"exit"`
	// Error is what the driver says about it, PodmanError what podman has noted about the container.
	Error       string `json:"error"`
	PodmanError string `json:"podman_error"`

	// Cgroup is null when nobody could look at it.
	Cgroup *Cgroup `json:"cgroup"`
	// Stderr are the last lines that were printed there.
	Stderr []string `json:"stderr"`
}

// Status is how a process has ended.
type Status struct {
	Code int `json:"code"`
	// Signal is the name of the one that, by its code, has ended the process.
	Signal    string `json:"signal"`
	OOMKilled bool   `json:"oom_killed"`
}

// Cgroup is what the task's cgroup said at the last look. A part is null where its controller is not delegated.
type Cgroup struct {
	LookedAt  time.Time `json:"looked_at"`
	BeforeEnd Seconds   `json:"before_end_seconds"`
	Memory    *Memory   `json:"memory"`
	PIDs      *Tasks    `json:"pids"`
	CPU       *CPU      `json:"cpu"`
	IO        *IO       `json:"io"`
	// Recent is what of the counts came at the end.
	Recent Recent `json:"recent"`
}

// Seconds are a duration in JSON.
type Seconds float64

func seconds(d time.Duration) Seconds { return Seconds(d.Seconds()) }

// String rounds to what people want to read.
func (s Seconds) String() string {
	d := time.Duration(float64(s) * float64(time.Second))
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// Memory is bytes and events of the controller memory.
type Memory struct {
	Limit    *uint64      `json:"limit_bytes"` // null: none
	High     *uint64      `json:"high_bytes"`  // memory.high, null: none
	Low      uint64       `json:"low_bytes"`   // memory.low, the reservation
	Peak     *uint64      `json:"peak_bytes"`  // null before Linux 5.19
	Swap     *uint64      `json:"swap_bytes"`  // null without swap accounting
	Events   MemoryEvents `json:"events"`
	Pressure *Pressure    `json:"pressure"` // null where the kernel does not track it, here and below
}

// MemoryEvents are those of memory.events, since the start.
type MemoryEvents struct {
	Low     uint64 `json:"low"`
	High    uint64 `json:"high"`
	Max     uint64 `json:"max"`
	OOM     uint64 `json:"oom"`
	OOMKill uint64 `json:"oom_kill"`
}

// Tasks are processes and threads, of the controller pids.
type Tasks struct {
	Limit   *uint64 `json:"limit"` // null: none
	Peak    *uint64 `json:"peak"`  // null before Linux 6.1
	Refused uint64  `json:"refused_forks"`
}

// CPU is the use of CPU time.
type CPU struct {
	Used Seconds `json:"used_seconds"`
	// Limit is in CPUs; null: none.
	Limit            *float64  `json:"limit_cpus"`
	Periods          uint64    `json:"periods"`
	ThrottledPeriods uint64    `json:"throttled_periods"`
	Throttled        Seconds   `json:"throttled_seconds"`
	Pressure         *Pressure `json:"pressure"`
}

// IO is waiting for input and output.
type IO struct {
	Pressure *Pressure `json:"pressure"`
}

// Pressure says how long some or all of the task's processes had to wait (the kernel's accounting/psi.rst): percent of the
// last 10 s, and in all.
type Pressure struct {
	SomeAvg10 float64 `json:"some_avg10"`
	SomeTotal Seconds `json:"some_total_seconds"`
	FullAvg10 float64 `json:"full_avg10"`
	FullTotal Seconds `json:"full_total_seconds"`
}

// Recent is what happened between an earlier look and the last one.
type Recent struct {
	// Since is how long before the task's end the earlier look was: about 10 to 20 s, less after a start or a restart of
	// the driver, more when nobody asked for the task's stats or the task did nothing.
	Since            Seconds `json:"since_seconds"`
	AtMemoryLimit    uint64  `json:"at_memory_limit"`
	RefusedForks     uint64  `json:"refused_forks"`
	Periods          uint64  `json:"periods"`
	ThrottledPeriods uint64  `json:"throttled_periods"`
	Throttled        Seconds `json:"throttled_seconds"`
}

// CgroupOf is what was seen of a task's cgroup, nil when nothing was.
func CgroupOf(last, earlier cgroupv2.Look, started, ended time.Time) *Cgroup {
	if last.At.IsZero() {
		return nil
	}
	if earlier.At.Equal(last.At) {
		earlier = cgroupv2.Look{At: started, Stats: cgroupv2.Stats{Measured: last.Measured}} // when the counts were 0
	}
	c := &Cgroup{
		LookedAt:  last.At,
		BeforeEnd: seconds(max(0, ended.Sub(last.At))),
		Recent:    Recent{Since: seconds(max(0, ended.Sub(earlier.At)))},
	}
	// Its host user may give a cgroup controllers and take them away meanwhile, which are counted anew.
	both := func(field cgroupv2.Field) bool { return last.Has(field) && earlier.Has(field) }
	if both(cgroupv2.MemoryCounts) {
		c.Recent.AtMemoryLimit = risen(earlier.MemoryEvents.Max, last.MemoryEvents.Max)
	}
	if both(cgroupv2.ProcessRefusals) {
		c.Recent.RefusedForks = risen(earlier.PIDsRefused, last.PIDsRefused)
	}
	if both(cgroupv2.CPUThrottling) {
		c.Recent.Periods = risen(earlier.Periods, last.Periods)
		c.Recent.ThrottledPeriods = risen(earlier.ThrottledPeriods, last.ThrottledPeriods)
		c.Recent.Throttled = seconds(risen(earlier.ThrottledTime, last.ThrottledTime))
	}
	if last.Has(cgroupv2.MemoryLimit | cgroupv2.MemoryCounts) {
		c.Memory = &Memory{
			Limit:    limit(last.MemoryLimit),
			High:     limit(last.MemoryHigh),
			Low:      last.MemoryLow,
			Peak:     measured(&last, cgroupv2.MemoryPeak, last.MemoryPeak),
			Swap:     measured(&last, cgroupv2.SwapUsage, last.Swap),
			Events:   MemoryEvents(last.MemoryEvents),
			Pressure: pressure(&last, cgroupv2.MemoryStalls, last.MemoryPressure),
		}
	}
	if last.Has(cgroupv2.ProcessLimit) {
		c.PIDs = &Tasks{
			Limit:   limit(last.PIDsLimit),
			Peak:    measured(&last, cgroupv2.ProcessPeak, last.PIDsPeak),
			Refused: last.PIDsRefused,
		}
	}
	if last.Has(cgroupv2.CPUTime) {
		c.CPU = &CPU{
			Used:             seconds(last.CPUTotal),
			Periods:          last.Periods,
			ThrottledPeriods: last.ThrottledPeriods,
			Throttled:        seconds(last.ThrottledTime),
			Pressure:         pressure(&last, cgroupv2.CPUStalls, last.CPUPressure),
		}
		if last.CPUQuota > 0 && last.CPUPeriod > 0 {
			cpus := last.CPUQuota.Seconds() / last.CPUPeriod.Seconds()
			c.CPU.Limit = &cpus
		}
	}
	if stalls := pressure(&last, cgroupv2.IOStalls, last.IOPressure); stalls != nil {
		c.IO = &IO{stalls}
	}
	return c
}

// risen is by how much a count has risen; 0 when it began anew.
func risen[T uint64 | time.Duration](from, to T) T { return to - min(from, to) }

func limit(value uint64) *uint64 {
	if value == math.MaxUint64 {
		return nil
	}
	return &value
}

func measured(l *cgroupv2.Look, field cgroupv2.Field, value uint64) *uint64 {
	if !l.Has(field) {
		return nil
	}
	return &value
}

func pressure(l *cgroupv2.Look, field cgroupv2.Field, p cgroupv2.Pressure) *Pressure {
	if !l.Has(field) {
		return nil
	}
	return &Pressure{
		SomeAvg10: p.Some.Avg10, SomeTotal: seconds(p.Some.Total),
		FullAvg10: p.Full.Avg10, FullTotal: seconds(p.Full.Total),
	}
}

const (
	// maxLines and maxText bound what is kept of a task's stderr, and of any other text (bytes).
	maxLines = 10
	maxText  = 4 << 10
)

// Lines are the last lines of what a task has printed, safe to show.
func Lines(text []byte) []string {
	lines := []string{}
	for line := range strings.Lines(string(text)) {
		if line = Clean(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-maxLines):]
}

// colours are terminal sequences, which say nothing without a terminal (ECMA-48, control sequences).
var colours = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]`)

// Clean makes a text one line that is safe to show: who wrote it may be anybody.
func Clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, colours.ReplaceAllString(text, ""))
	return shorten(strings.TrimSpace(text), maxText)
}

// shorten cuts a text to so many bytes.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}
