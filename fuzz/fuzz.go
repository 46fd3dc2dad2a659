// Package fuzz is what the fuzz targets of all rooms ask of a parser, besides that it does not panic.
package fuzz

import (
	"runtime/metrics"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

const (
	// free is what parsing may allocate whatever its input, bytes: buffers, and what the runtime counts late.
	free = 2 << 20
	// longest is the processor time that it may take, far above what any input needs that a fuzzer makes.
	longest = 3 * time.Second
)

// Cheap runs fn, which parses so many bytes of input. It fails the test when that takes too long, or when it allocates more
// than perByte bytes for each byte of input: what is garbage by then counts, too.
func Cheap(t testing.TB, input, perByte int, fn func()) {
	t.Helper()
	allocated, started := allocations(), processorTime(t)
	fn()
	must.LessEq(t, longest, processorTime(t)-started, must.Sprintf("of processor time for %d bytes", input))
	must.LessEq(t, uint64(free+perByte*input), allocations()-allocated, must.Sprintf("bytes allocated for %d", input)) //nolint:gosec // not negative
}

func allocations() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func processorTime(t testing.TB) time.Duration {
	var usage unix.Rusage
	must.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Line fails the test unless a text is a line that can be shown to people: of printable characters, and of at most so many
// bytes.
func Line(t testing.TB, text string, most int) {
	t.Helper()
	must.LessEq(t, most, len(text), must.Sprintf("%.200q", text))
	must.True(t, utf8.ValidString(text), must.Sprintf("%q", text))
	must.False(t, strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), must.Sprintf("%q", text))
}
