package cgroupv2

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Look is what a cgroup says about itself in full: what it has used, as a sample says, against which limits, and what its
// processes had to wait for. It is kept for the time when the cgroup is gone.
type Look struct {
	At time.Time // zero: nobody could look
	Stats

	MemoryLow    uint64       // bytes, memory.low
	MemoryHigh   uint64       // bytes, memory.high; math.MaxUint64 is no limit
	MemoryEvents MemoryEvents // memory.events

	PIDsLimit   uint64 // processes and threads, pids.max; math.MaxUint64 is no limit
	PIDsPeak    uint64 // the most there ever were, pids.peak
	PIDsRefused uint64 // forks that failed since the limit was reached, pids.events max; before Linux 6.11 without those of descendants

	CPUQuota  time.Duration // cpu.max: CPU time per CPUPeriod; 0 is no limit
	CPUPeriod time.Duration

	CPUPressure    Pressure // cpu.pressure
	MemoryPressure Pressure // memory.pressure
	IOPressure     Pressure // io.pressure
}

// Fields of Look beyond those of Stats.
const (
	MemoryProtection Field = 1 << (iota + 16) // MemoryLow, MemoryHigh
	MemoryCounts                              // MemoryEvents
	ProcessLimit                              // PIDsLimit
	ProcessPeak                               // PIDsPeak; since Linux 6.1
	ProcessRefusals                           // PIDsRefused
	CPULimit                                  // CPUQuota, CPUPeriod
	CPUStalls                                 // CPUPressure; where the kernel tracks pressure, as the next two
	MemoryStalls                              // MemoryPressure
	IOStalls                                  // IOPressure
)

// MemoryEvents counts what has happened to a cgroup with all its descendants.
type MemoryEvents struct {
	Low, High, Max uint64 // reclaimed below memory.low, throttled above memory.high, stopped at memory.max
	OOM            uint64 // no memory could be had within memory.max
	OOMKill        uint64 // processes that an OOM killer has killed, be it for this cgroup's limit or for one above
}

// Pressure is how long processes were kept waiting (the kernel's Documentation/accounting/psi.rst).
type Pressure struct {
	Some, Full Stall // at least one of them waited, all of them did
}

// Stall is a share of time.
type Stall struct {
	Avg10 float64       // percent, over about the last 10 s
	Total time.Duration // since the cgroup exists
}

// lookSources are the files that a Look adds to a sample's. They are opened for each look: to keep them open would cost
// every task a page of kernel memory each.
var lookSources = [...]struct {
	file  string
	parse func(text []byte, l *Look) error
}{
	{"memory.events", parseMemoryEvents},
	{"memory.low", func(text []byte, l *Look) error { return single(text, &l.Stats, MemoryProtection, &l.MemoryLow) }},
	{"memory.high", func(text []byte, l *Look) error { return single(text, &l.Stats, MemoryProtection, &l.MemoryHigh) }},
	{"pids.max", func(text []byte, l *Look) error { return single(text, &l.Stats, ProcessLimit, &l.PIDsLimit) }},
	{"pids.peak", func(text []byte, l *Look) error { return single(text, &l.Stats, ProcessPeak, &l.PIDsPeak) }},
	{"pids.events", parsePIDsEvents},
	{"cpu.max", parseCPUMax},
	{"cpu.pressure", func(text []byte, l *Look) error { return parsePressure(text, l, CPUStalls, &l.CPUPressure) }},
	{"memory.pressure", func(text []byte, l *Look) error { return parsePressure(text, l, MemoryStalls, &l.MemoryPressure) }},
	{"io.pressure", func(text []byte, l *Look) error { return parsePressure(text, l, IOStalls, &l.IOPressure) }},
}

// looks are the last look at a cgroup, and two earlier ones.
type looks struct{ last, recent, before Look }

// lookback is the least time that the counters of the earlier look are apart from the last one's, once it is over.
const lookback = 10 * time.Second

func (l *looks) add(now Look) {
	switch {
	case l.last.At.IsZero():
		l.before, l.recent = now, now
	case now.At.Sub(l.recent.At) >= lookback:
		l.before, l.recent = l.recent, now
	}
	l.last = now
}

// Look reads all that the cgroup says, and keeps it for Looks. It takes several times as long as Read. The error is ErrGone
// when the cgroup was removed; then what is kept stays.
func (r *Reader) Look() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := Look{At: time.Now()}
	if err := r.read(&now.Stats, r.sources[:]); err != nil {
		return err
	}
	for _, source := range lookSources {
		if err := r.lookAt(source.file, source.parse, &now); err != nil {
			return cgroupError(r.path, fmt.Errorf("%s: %w", source.file, err))
		}
	}
	// A file that is missing says nothing in a cgroup that is.
	if _, err := r.text(r.sources[0]); err != nil {
		return cgroupError(r.path, err)
	}
	r.looks.add(now)
	return nil
}

func (r *Reader) lookAt(name string, parse func([]byte, *Look) error, l *Look) error {
	fd, err := openBare(int(r.dir.Fd()), name) // #nosec G115 -- a descriptor is an int
	var text []byte
	if err == nil {
		text, err = readText(fd, r.buf[:])
		_ = unix.Close(fd) // nothing was written
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EOPNOTSUPP): // no such controller; no pressure tracked (psi=0)
		return nil
	case err != nil:
		return err
	}
	return parse(text, l)
}

// Looks returns what the last Look has seen, and an earlier one: of 10 s before or more, else the first there was.
func (r *Reader) Looks() (last, earlier Look) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looks.last, r.looks.before
}

func parseMemoryEvents(text []byte, l *Look) error {
	l.Measured |= MemoryCounts
	return flatKeyed(text, func(key []byte, value uint64) {
		switch string(key) {
		case "low":
			l.MemoryEvents.Low = value
		case "high":
			l.MemoryEvents.High = value
		case "max":
			l.MemoryEvents.Max = value
		case "oom":
			l.MemoryEvents.OOM = value
		case "oom_kill":
			l.MemoryEvents.OOMKill = value
		}
	})
}

func parsePIDsEvents(text []byte, l *Look) error {
	l.Measured |= ProcessRefusals
	return flatKeyed(text, func(key []byte, value uint64) {
		if string(key) == "max" {
			l.PIDsRefused = value
		}
	})
}

// parseCPUMax parses "QUOTA PERIOD" in microseconds.
func parseCPUMax(text []byte, l *Look) error {
	l.Measured |= CPULimit
	quota, period, _ := bytes.Cut(bytes.TrimSuffix(text, []byte("\n")), []byte(" "))
	per, err := number(period)
	if err != nil {
		return err
	}
	l.CPUPeriod = microseconds(per)
	if string(quota) == "max" {
		return nil
	}
	most, err := number(quota)
	l.CPUQuota = microseconds(most)
	return err
}

// parsePressure parses lines "some|full avg10=PERCENT avg60=… avg300=… total=MICROSECONDS".
func parsePressure(text []byte, l *Look, f Field, p *Pressure) error {
	l.Measured |= f
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var stall *Stall
		switch string(fields[0]) {
		case "some":
			stall = &p.Some
		case "full":
			stall = &p.Full
		default:
			continue
		}
		for _, field := range fields[1:] {
			key, value, _ := bytes.Cut(field, []byte("="))
			var err error
			var total uint64
			switch string(key) {
			case "avg10":
				stall.Avg10, err = percent(value)
			case "total":
				total, err = number(value)
				stall.Total = microseconds(total)
			}
			if err != nil {
				return fmt.Errorf("%.40q: %w", field, err)
			}
		}
	}
	return nil
}

// percent parses a share of time. JSON, in which it is kept, has no other numbers than finite ones.
func percent(text []byte) (float64, error) {
	share, err := strconv.ParseFloat(string(text), 64)
	if err != nil || share < 0 || math.IsNaN(share) || math.IsInf(share, 1) {
		return 0, errors.New("not a percentage")
	}
	return share, nil
}
