package driver

import (
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

// A signal, be it a job's or what a podman calls an image's, has a number, and the name that podman is told means the same.
func FuzzSignal(f *testing.F) {
	for _, text := range []string{"SIGTERM", "int", "SIGRTMIN+3", "RTMAX-1", "2", "0", "65", "-1", "SIG", "\x1b[31m", "٣"} {
		f.Add(text)
	}
	f.Add(strings.Repeat("\xff", 4000))
	f.Fuzz(func(t *testing.T, text string) {
		name, number, err := parseSignal(text)
		if err != nil {
			fuzz.Line(t, err.Error(), 300)
			return
		}
		must.Between(t, 1, int(number), 64)
		_, again, err := parseSignal(name)
		must.NoError(t, err)
		must.EqOp(t, number, again)
	})
}
