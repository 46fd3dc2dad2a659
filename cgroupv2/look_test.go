package cgroupv2

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// limitedCgroup is a cgroup that has reached every limit, on Linux 6.12.
func limitedCgroup() map[string]string {
	files := redisCgroup()
	maps.Copy(files, map[string]string{
		"memory.events":   "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 0\n",
		"memory.low":      "4096\n",
		"memory.high":     "max\n",
		"pids.max":        "50\n",
		"pids.peak":       "49\n",
		"pids.events":     "max 6\n",
		"cpu.max":         "50000 100000\n",
		"cpu.pressure":    "some avg10=12.50 avg60=1.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"memory.pressure": "some avg10=99.00 avg60=1.00 avg300=0.00 total=2000000\nfull avg10=33.25 avg60=0.00 avg300=0.00 total=1000000\n",
		"io.pressure":     "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
	})
	return files
}

func TestReader_Look(t *testing.T) {
	_, r := openRedis(t, limitedCgroup())
	must.Len(t, 2, r.Events())
	before := time.Now()
	must.NoError(t, r.Look())
	got, earlier := r.Looks()
	must.Eq(t, got, earlier)
	must.False(t, got.At.Before(before))

	var sample Stats
	must.NoError(t, r.Read(&sample))
	sample.Measured = got.Measured
	must.Eq(t, Look{
		At:           got.At,
		Stats:        sample,
		MemoryLow:    4096,
		MemoryHigh:   math.MaxUint64,
		MemoryEvents: MemoryEvents{Low: 1, High: 2, Max: 3, OOM: 4, OOMKill: 5},
		PIDsLimit:    50,
		PIDsPeak:     49,
		PIDsRefused:  6,
		CPUQuota:     50 * time.Millisecond,
		CPUPeriod:    100 * time.Millisecond,
		CPUPressure:  Pressure{Some: Stall{Avg10: 12.5, Total: 1500 * time.Millisecond}},
		MemoryPressure: Pressure{
			Some: Stall{Avg10: 99, Total: 2 * time.Second}, Full: Stall{Avg10: 33.25, Total: time.Second},
		},
		IOPressure: Pressure{Some: Stall{Total: 7 * time.Microsecond}, Full: Stall{Total: 3 * time.Microsecond}},
	}, got)
	must.True(t, got.Has(CPUTime|MemoryUsage|MemoryProtection|MemoryCounts|ProcessLimit|ProcessPeak|ProcessRefusals|CPULimit|CPUStalls|MemoryStalls|IOStalls))
}

// What a host lacks is not measured, and what cannot be read is no look.
func TestReader_LookOfLess(t *testing.T) {
	h, r := openRedis(t, map[string]string{"cpu.stat": "usage_usec 1\n", "cpu.max": "max 100000\n"})
	must.SliceEmpty(t, r.Events())
	must.NoError(t, r.Look())
	got, _ := r.Looks()
	must.Eq(t, CPUTime|CPULimit, got.Measured)
	must.Eq(t, 0, got.CPUQuota)

	must.NoError(t, os.WriteFile(filepath.Join(h.Root, redisPath, "cpu.pressure"), []byte("some avg10=much\n"), 0o600))
	must.ErrorContains(t, r.Look(), "cpu.pressure")
	again, _ := r.Looks()
	must.Eq(t, got, again)

	must.NoError(t, r.Close())
	must.ErrorIs(t, r.Look(), os.ErrClosed)
}

func TestLooks(t *testing.T) {
	start := time.Now()
	at := func(seconds int) Look { return Look{At: start.Add(time.Duration(seconds) * time.Second)} }
	var l looks
	for _, tc := range []struct{ now, before int }{{0, 0}, {3, 0}, {10, 0}, {11, 0}, {19, 0}, {20, 10}, {21, 10}, {90, 20}, {91, 20}, {100, 90}} {
		l.add(at(tc.now))
		must.Eq(t, at(tc.now), l.last)
		must.Eq(t, at(tc.before), l.before, must.Sprintf("at %d s", tc.now))
	}
}

func BenchmarkReader_Look(b *testing.B) {
	_, r := openRedis(b, limitedCgroup())
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Look(); err != nil {
			b.Fatal(err)
		}
	}
}
