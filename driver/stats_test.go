package driver

import (
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
