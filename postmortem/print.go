package postmortem

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"nomad-driver-podman/cli"
)

// PrintJSON writes the records as a JSON array.
func PrintJSON(out io.Writer, records []*Record) error {
	return cli.PrintJSON(out, records)
}

// PrintText writes the records for people to read.
func PrintText(out io.Writer, records []*Record) error {
	for i, r := range records {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		if err := r.print(out); err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) print(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "Task %q of allocation %s: %s\n\n", r.Task, r.AllocID, r.Summary); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var failed error
	line := func(name, format string, args ...any) {
		if _, err := fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...)); err != nil {
			failed = err
		}
	}
	line("cause", "%s", r.Cause)
	line("job", "%s, group %s, namespace %s", r.Job, r.Group, r.Namespace)
	if r.HostUser != "" {
		uid := ""
		if r.UID != nil {
			uid = fmt.Sprintf(" (%d)", *r.UID)
		}
		line("host user", "%s%s, socket %s", r.HostUser, uid, r.Socket)
	}
	optional := func(name, text string) {
		if text != "" {
			line(name, "%s", text)
		}
	}
	optional("image", r.Image)
	optional("container", r.Container)
	if r.StartedAt != nil {
		line("started", "%s", r.StartedAt.Format(time.RFC3339))
		line("ended", "%s, after %s", r.EndedAt.Format(time.RFC3339), seconds(r.EndedAt.Sub(*r.StartedAt)))
	} else {
		line("failed", "%s", r.EndedAt.Format(time.RFC3339))
	}
	if r.Exit != nil {
		oom := ""
		if r.Exit.OOMKilled {
			oom = ", killed for its memory"
		}
		line("exit", "%s%s", strings.TrimPrefix(r.Exit.by(), "with "), oom)
	}
	optional("error", r.Error)
	optional("podman", r.PodmanError)
	if r.Cgroup != nil {
		r.Cgroup.lines(line)
	} else if r.StartedAt != nil {
		line("cgroup", "gone before anybody could look")
	}
	for i, text := range r.Stderr {
		name := ""
		if i == 0 {
			name = "stderr"
		}
		line(name, "%s", text)
	}
	if failed != nil {
		return failed
	}
	return table.Flush()
}

func (c *Cgroup) lines(line func(name, format string, args ...any)) {
	line("cgroup", "as seen %s before the end", c.BeforeEnd)
	if m := c.Memory; m != nil {
		line("  memory", "limit %s, reserved %s, throttled above %s, peak %s, swap %s",
			amount(m.Limit, bytesSize), bytesSize(m.Low), amount(m.High, bytesSize), orUnknown(m.Peak, bytesSize), orUnknown(m.Swap, bytesSize))
		line("", "low %d, high %d, max %d (%d in the last %s), oom %d, oom_kill %d",
			m.Events.Low, m.Events.High, m.Events.Max, c.Recent.AtMemoryLimit, c.Recent.Since, m.Events.OOM, m.Events.OOMKill)
		m.Pressure.line(line)
	}
	if p := c.PIDs; p != nil {
		line("  processes", "limit %s, peak %s, %s refused (%d in the last %s)",
			amount(p.Limit, plain), orUnknown(p.Peak, plain), times(p.Refused, "fork"), c.Recent.RefusedForks, c.Recent.Since)
	}
	if p := c.CPU; p != nil {
		limit := "none"
		if p.Limit != nil {
			limit = strconv.FormatFloat(*p.Limit, 'g', 3, 64) + " CPUs"
		}
		line("  cpu", "limit %s, used %s, throttled %s in %d of %d periods (%s in %d of %d in the last %s)", limit, p.Used,
			p.Throttled, p.ThrottledPeriods, p.Periods, c.Recent.Throttled, c.Recent.ThrottledPeriods, c.Recent.Periods, c.Recent.Since)
		p.Pressure.line(line)
	}
	if c.IO != nil {
		line("  io", "%s", c.IO.Pressure)
	}
}

func (p *Pressure) line(line func(name, format string, args ...any)) {
	if p != nil {
		line("", "%s", p)
	}
}

// String says how long processes have waited.
func (p *Pressure) String() string {
	return fmt.Sprintf("pressure: some waited %.0f %% of the last 10 s (%s in all), all waited %.0f %% (%s)",
		p.SomeAvg10, p.SomeTotal, p.FullAvg10, p.FullTotal)
}

func orUnknown(value *uint64, format func(uint64) string) string {
	if value == nil {
		return "not measured"
	}
	return format(*value)
}
