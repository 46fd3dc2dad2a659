package cgroupv2

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Field names what a host may or may not measure.
type Field uint

// Fields of Stats. What needs a controller is missing where that was not delegated.
const (
	CPUTime         Field = 1 << iota // CPUTotal, CPUUser, CPUSystem; needs no controller
	CPUThrottling                     // Periods, ThrottledPeriods, ThrottledTime; controller cpu
	MemoryUsage                       // Memory; controller memory, as all that follow but the last
	MemoryPeak                        // MemoryPeak; since Linux 5.19
	MemoryLimit                       // MemoryLimit
	MemoryBreakdown                   // Anon, File, FileMapped
	SwapUsage                         // Swap; only with swap accounting
	Processes                         // PIDs; controller pids
)

// Stats is what a cgroup with all its descendants has used. A field that the host does not
// measure is zero.
type Stats struct {
	Measured Field // what the host measures, a set of bits

	CPUTotal         time.Duration // cpu.stat usage_usec
	CPUUser          time.Duration // cpu.stat user_usec
	CPUSystem        time.Duration // cpu.stat system_usec
	Periods          uint64        // cpu.stat nr_periods: periods with a limit that have elapsed
	ThrottledPeriods uint64        // cpu.stat nr_throttled: those in which the limit was hit
	ThrottledTime    time.Duration // cpu.stat throttled_usec

	Memory      uint64 // bytes now, memory.current
	MemoryPeak  uint64 // bytes at most since the cgroup exists, memory.peak
	MemoryLimit uint64 // bytes, memory.max; math.MaxUint64 is no limit
	Swap        uint64 // bytes now, memory.swap.current
	Anon        uint64 // bytes, memory.stat anon
	File        uint64 // bytes of page cache, memory.stat file
	FileMapped  uint64 // bytes of page cache that are mapped, memory.stat file_mapped

	PIDs uint64 // processes and threads, pids.current
}

// Has tells whether all of the fields are measured.
func (s *Stats) Has(f Field) bool { return s.Measured&f == f }

// changing is how many of the sources, the first ones, tell whether anything has happened in a cgroup.
const changing = 2

// sources are the files that Stats is made of. cpu.stat is in every cgroup; any other may be
// missing.
var sources = [...]struct {
	file  string
	parse func(text []byte, s *Stats) error
}{
	{"cpu.stat", parseCPUStat},
	{"memory.current", func(text []byte, s *Stats) error { return single(text, s, MemoryUsage, &s.Memory) }},
	{"memory.peak", func(text []byte, s *Stats) error { return single(text, s, MemoryPeak, &s.MemoryPeak) }},
	{"memory.max", func(text []byte, s *Stats) error { return single(text, s, MemoryLimit, &s.MemoryLimit) }},
	{"memory.swap.current", func(text []byte, s *Stats) error { return single(text, s, SwapUsage, &s.Swap) }},
	{"memory.stat", parseMemoryStat},
	{"pids.current", func(text []byte, s *Stats) error { return single(text, s, Processes, &s.PIDs) }},
}

func parseCPUStat(text []byte, s *Stats) error {
	return flatKeyed(text, func(key []byte, value uint64) {
		switch string(key) {
		case "usage_usec":
			s.CPUTotal = microseconds(value)
			s.Measured |= CPUTime
		case "user_usec":
			s.CPUUser = microseconds(value)
		case "system_usec":
			s.CPUSystem = microseconds(value)
		case "nr_periods":
			s.Periods = value
			s.Measured |= CPUThrottling
		case "nr_throttled":
			s.ThrottledPeriods = value
		case "throttled_usec":
			s.ThrottledTime = microseconds(value)
		}
	})
}

func parseMemoryStat(text []byte, s *Stats) error {
	s.Measured |= MemoryBreakdown
	return flatKeyed(text, func(key []byte, value uint64) {
		switch string(key) {
		case "anon":
			s.Anon = value
		case "file":
			s.File = value
		case "file_mapped":
			s.FileMapped = value
		}
	})
}

func microseconds(n uint64) time.Duration {
	const most = uint64(math.MaxInt64 / int64(time.Microsecond))
	return time.Duration(min(n, most)) * time.Microsecond // #nosec G115 -- bounded by most
}

// single parses a file with one value.
func single(text []byte, s *Stats, f Field, value *uint64) (err error) {
	*value, err = number(bytes.TrimSuffix(text, []byte("\n")))
	s.Measured |= f
	return err
}

// flatKeyed parses a file of lines "KEY VALUE" (cgroup-v2.rst, "Flat keyed"). A last line that
// was cut off is left out.
func flatKeyed(text []byte, each func(key []byte, value uint64)) error {
	for {
		line, rest, complete := bytes.Cut(text, []byte("\n"))
		if !complete {
			return nil
		}
		key, value, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			return fmt.Errorf("line %.40q is not a key and a value", line)
		}
		n, err := number(value)
		if err != nil {
			return fmt.Errorf("value of %.40q: %w", key, err)
		}
		each(key, n)
		text = rest
	}
}

// number parses a value; "max" is the kernel's word for no limit.
func number(text []byte) (uint64, error) {
	if string(text) == "max" {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	return n, nil
}
