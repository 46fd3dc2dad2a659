package driver

import (
	"os"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func TestUntilNextSample(t *testing.T) {
	second := time.Unix(1700000000, 0)
	for after, want := range map[time.Duration]time.Duration{
		0:                       time.Second,
		time.Millisecond:        999 * time.Millisecond,
		-time.Millisecond:       1001 * time.Millisecond, // a timer that was early
		400 * time.Millisecond:  600 * time.Millisecond,
		-400 * time.Millisecond: 1400 * time.Millisecond,
	} {
		must.Eq(t, want, untilNextSample(second.Add(after), time.Second), must.Sprintf("%s after a full second", after))
	}
}

// What a task uses is sent when it has changed, and once in every ten seconds.
func TestSampler(t *testing.T) {
	reader, set := fakeCgroup(t, map[string]string{"memory.current": "4096\n"})
	sampler := newSampler(reader)
	for _, tick := range []struct {
		second      int
		cpu, memory string
		sent        bool
	}{
		{4, "1000", "4096", true}, // the first
		{5, "2000", "4096", true},
		{6, "2000", "4096", true}, // that it uses no more processor time
		{7, "2000", "4096", false},
		{8, "2000", "8192", true},
		{9, "2000", "8192", false},
		{10, "2000", "8192", true}, // ten seconds begin
		{11, "2000", "8192", false},
		{12, "3000", "8192", true},
		{13, "4000", "8192", true},
		{14, "4000", "8192", true},
		{19, "4000", "8192", false},
		{20, "4000", "8192", true},
	} {
		set("cpu.stat", "usage_usec "+tick.cpu+"\n")
		set("memory.current", tick.memory+"\n")
		at := time.Unix(1700000000+int64(tick.second), 0)
		usage, err := sampler.sample(at)
		must.NoError(t, err)
		must.Eq(t, tick.sent, usage != nil, must.Sprintf("at second %d", tick.second))
		if usage != nil {
			must.Eq(t, at.UnixNano(), usage.Timestamp)
			must.Eq(t, tick.memory == "8192", usage.ResourceUsage.MemoryStats.Usage == 8192)
		}
	}
	must.NoError(t, reader.Close())
	_, err := sampler.sample(time.Unix(1700000021, 0))
	must.ErrorIs(t, err, os.ErrClosed)
}
