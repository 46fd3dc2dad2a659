package driver

import (
	"os"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
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

// What a task uses is sent when it has changed, and once in every ten seconds. It is looked at whole that often, too, but more
// rarely while it does nothing.
func TestSampler(t *testing.T) {
	reader, set := fakeCgroup(t, map[string]string{"memory.current": "4096\n"})
	sampler := newSampler(reader)
	var looked time.Time
	for _, tick := range []struct {
		second       int
		cpu, memory  string
		sent, looked bool
	}{
		{4, "1000", "4096", true, true}, // the first
		{5, "2000", "4096", true, false},
		{6, "2000", "4096", true, false}, // that it uses no more processor time
		{7, "2000", "4096", false, false},
		{8, "2000", "8192", true, false},
		{9, "2000", "8192", false, false},
		{10, "2000", "8192", true, false}, // ten seconds begin
		{11, "2000", "8192", false, false},
		{12, "3000", "8192", true, false},
		{13, "4000", "8192", true, false},
		{14, "5000", "8192", true, true},
		{15, "5000", "8192", true, false},
		{19, "5000", "8192", false, false},
		{20, "5000", "8192", true, false},
		{30, "5000", "8192", true, true},
		{40, "5000", "8192", true, true},
		{50, "5000", "8192", true, false}, // two looks have found the same
		{99, "5000", "8192", true, false},
		{100, "5000", "8192", true, true},
		{111, "6000", "8192", true, true},
		{112, "6000", "8192", true, false},
		{121, "6000", "8192", true, true},
	} {
		message := must.Sprintf("at second %d", tick.second)
		set("cpu.stat", "usage_usec "+tick.cpu+"\n")
		set("memory.current", tick.memory+"\n")
		at := time.Unix(1700000000+int64(tick.second), 0)
		usage, err := sampler.sample(at)
		must.NoError(t, err)
		must.Eq(t, tick.sent, usage != nil, message)
		if usage != nil {
			must.Eq(t, at.UnixNano(), usage.Timestamp)
			must.Eq(t, tick.memory == "8192", usage.ResourceUsage.MemoryStats.Usage == 8192)
		}
		last, _ := reader.Looks()
		must.Eq(t, tick.looked, last.At.After(looked), message)
		looked = last.At
	}
	must.NoError(t, reader.Close())
	_, err := sampler.sample(time.Unix(1700000122, 0))
	must.ErrorIs(t, err, os.ErrClosed)
}

// Of a task that goes on after it has done nothing, the percent is of the last interval.
func TestSamplerAfterIdling(t *testing.T) {
	reader, set := fakeCgroup(t, nil)
	sampler := newSampler(reader)
	at := time.Unix(1700000000, 0)
	sample := func() *drivers.TaskResourceUsage {
		at = at.Add(time.Second)
		usage, err := sampler.sample(at)
		must.NoError(t, err)
		return usage
	}
	must.NotNil(t, sample())
	must.NotNil(t, sample())
	must.Nil(t, sample())
	<-time.After(100 * time.Millisecond) // so long did it nothing
	began := time.Now()
	must.Nil(t, sample())
	set("cpu.stat", "usage_usec 1001000\n")
	usage := sample()
	must.NotNil(t, usage)
	must.GreaterEq(t, 100*time.Second.Seconds()/time.Since(began).Seconds(), usage.ResourceUsage.CpuStats.Percent)
}
