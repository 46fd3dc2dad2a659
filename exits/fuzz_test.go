package exits

import (
	"fmt"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

// Whatever a process calls itself, its start is the one that the kernel tells.
func FuzzStartTime(f *testing.F) {
	f.Add([]byte("redis"), uint64(987654), []byte("42 (redis) S 1 2 3"))
	f.Add([]byte("a) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 7 ("), uint64(1), []byte(")"))
	f.Add([]byte("\n\xff) "), ^uint64(0), []byte("1 (a) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 -987654 10 11"))
	f.Fuzz(func(t *testing.T, command []byte, start uint64, stat []byte) {
		kernels := fmt.Appendf(nil, "42 (%s) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 10 11\n", command, start)
		got, err := startTime(kernels)
		must.NoError(t, err)
		must.EqOp(t, start, got)
		fuzz.Cheap(t, len(stat), 64, func() { _, err = startTime(stat) })
		if err != nil {
			must.LessEq(t, 200, len(err.Error()))
		}
	})
}
