package postmortem

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
)

const (
	// stale is how old a last look may be before a sentence says that it is, seconds.
	stale Seconds = 2
	// strained is the share of time from which on waiting is worth telling, percent.
	strained = 25
	// saidLines and saidText (bytes) bound what a sentence repeats of stderr, and saidText of podman's words.
	saidLines = 3
	saidText  = 400
)

// Judge finds the cause of a task's end in what else is in the record, and sums it up.
func (r *Record) Judge() {
	switch {
	case r.Cause != "": // a start that has failed
	case r.Exit == nil, r.Exit.Code == 0:
		r.Cause = Unknown
	case r.Exit.OOMKilled:
		r.Cause = OOM
	case r.Cgroup != nil && r.Cgroup.PIDs != nil && r.Cgroup.Recent.RefusedForks > 0:
		r.Cause = PIDs
	case r.Exit.Signal != "":
		r.Cause = Signal
	default:
		r.Cause = Exit
	}
	r.Summary = r.sentence()
}

func (r *Record) sentence() string {
	var what, strain string
	switch r.Cause {
	case Image, Start, Unknown:
		what = r.Error
	case OOM:
		what, strain = r.killedForMemory(), r.Cgroup.throttling()
	case PIDs:
		what = fmt.Sprintf("It was at its limit of processes (%s, %s refused in the last %s) and ended %s",
			amount(r.Cgroup.PIDs.Limit, plain), times(r.Cgroup.Recent.RefusedForks, "fork"), r.Cgroup.Recent.Since, r.Exit.by())
		strain = r.Cgroup.strain()
	default:
		what, strain = "It ended "+r.Exit.by(), r.Cgroup.strain()
	}
	podman := ""
	if r.PodmanError != "" {
		podman = "podman: " + shorten(r.PodmanError, saidText)
	}
	return join(what, strain, podman, r.lastWords())
}

func (r *Record) killedForMemory() string {
	const sentence = "The kernel killed it for its memory"
	c := r.Cgroup
	switch {
	case c == nil || c.Memory == nil:
		return sentence
	case c.Memory.Events.OOMKill > 0 && c.Memory.Events.OOM == 0:
		return fmt.Sprintf("The kernel killed it because memory ran out in a cgroup above it or on the host: its own limit is %s, %s",
			amount(c.Memory.Limit, bytesSize), c.memoryUse())
	}
	use := c.memoryUse()
	if c.Memory.Events.OOMKill == 0 && c.Memory.Peak != nil && c.BeforeEnd < stale {
		use += c.seen() // not at its worst
	}
	return fmt.Sprintf("%s: limit %s, %s", sentence, amount(c.Memory.Limit, bytesSize), use)
}

// seen says how old the last look is.
func (c *Cgroup) seen() string { return fmt.Sprintf(" (as seen %s before the end)", c.BeforeEnd) }

// Survived says that a task goes on after so many of its processes were killed for their memory.
func (c *Cgroup) Survived(kills uint64) string {
	killed := "a process"
	if kills > 1 {
		killed = fmt.Sprintf("%d processes", kills)
	}
	limit := ""
	if c != nil && c.Memory != nil {
		limit = fmt.Sprintf(" (limit %s, %s)", amount(c.Memory.Limit, bytesSize), c.memoryUse())
	}
	return fmt.Sprintf("The kernel has killed %s of the task for its memory%s; the task goes on", killed, limit)
}

// memoryUse is how much memory it had, and how often more was refused at first.
func (c *Cgroup) memoryUse() string {
	use := "peak not measured"
	if c.Memory.Peak != nil {
		use = "peak " + bytesSize(*c.Memory.Peak)
	}
	if c.Recent.AtMemoryLimit > 0 {
		use += fmt.Sprintf(", %s at the limit in the last %s", times(c.Recent.AtMemoryLimit, "time"), c.Recent.Since)
	}
	if c.BeforeEnd >= stale {
		use += c.seen()
	}
	return use
}

// strain is what else was scarce before the end.
func (c *Cgroup) strain() string {
	if c == nil {
		return ""
	}
	var memory, processes, waiting string
	if c.Memory != nil && c.Recent.AtMemoryLimit > 0 {
		memory = fmt.Sprintf("memory: limit %s, %s", amount(c.Memory.Limit, bytesSize), c.memoryUse())
	}
	if p := c.PIDs; p != nil && c.Recent.RefusedForks == 0 && p.Limit != nil && p.Peak != nil && *p.Peak >= *p.Limit {
		processes = fmt.Sprintf("it has been at its limit of %d processes", *p.Limit)
	}
	var waited []string
	for _, resource := range []struct {
		name     string
		pressure *Pressure
	}{{"memory", c.memoryPressure()}, {"the CPU", c.cpuPressure()}, {"I/O", c.ioPressure()}} {
		if resource.pressure != nil && resource.pressure.SomeAvg10 >= strained {
			waited = append(waited, fmt.Sprintf("%s %.0f %%", resource.name, resource.pressure.SomeAvg10))
		}
	}
	if waited != nil {
		waiting = "of its last 10 s it waited for " + strings.Join(waited, ", ")
	}
	return join(memory, processes, c.throttling(), waiting)
}

// throttling is told when half of the periods before the end were cut short.
func (c *Cgroup) throttling() string {
	if c == nil || c.CPU == nil || c.Recent.ThrottledPeriods == 0 || c.Recent.ThrottledPeriods < c.Recent.Periods/2 {
		return ""
	}
	limit := "its limit"
	if c.CPU.Limit != nil {
		limit = fmt.Sprintf("its limit of %.3g CPUs", *c.CPU.Limit)
	}
	return fmt.Sprintf("throttled by %s in %d of %d periods in the last %s", limit, c.Recent.ThrottledPeriods, c.Recent.Periods, c.Recent.Since)
}

func (c *Cgroup) memoryPressure() *Pressure {
	if c.Memory == nil {
		return nil
	}
	return c.Memory.Pressure
}

func (c *Cgroup) cpuPressure() *Pressure {
	if c.CPU == nil {
		return nil
	}
	return c.CPU.Pressure
}

func (c *Cgroup) ioPressure() *Pressure {
	if c.IO == nil {
		return nil
	}
	return c.IO.Pressure
}

// lastWords are the last lines of stderr.
func (r *Record) lastWords() string {
	if len(r.Stderr) == 0 {
		return ""
	}
	words := strings.Join(r.Stderr[max(0, len(r.Stderr)-saidLines):], " | ")
	if cut := len(words) - saidText; cut > 0 {
		words = "…" + strings.ToValidUTF8(words[cut:], "")
	}
	return fmt.Sprintf("last on stderr: %q", words)
}

func (s *Status) by() string {
	if s.Signal == "" {
		return fmt.Sprintf("with exit code %d", s.Code)
	}
	return fmt.Sprintf("by signal %s (exit code %d)", s.Signal, s.Code)
}

func amount(value *uint64, format func(uint64) string) string {
	if value == nil {
		return "none"
	}
	return format(*value)
}

func plain(n uint64) string { return fmt.Sprint(n) }

func bytesSize(n uint64) string { return units.BytesSize(float64(n)) }

func times(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// join makes a sentence of clauses, some of which may be empty.
func join(clauses ...string) string {
	return strings.Join(slices.DeleteFunc(clauses, func(clause string) bool { return clause == "" }), "; ")
}
