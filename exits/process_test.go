package exits

import (
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

func TestStartTime(t *testing.T) {
	const tail = " S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 11"
	for name, tc := range map[string]struct {
		stat string
		want uint64
		fail bool
	}{
		"plain":                  {stat: "42 (redis)" + tail, want: 987654},
		"spaces and parentheses": {stat: "42 (a) S 1 (b c))" + tail, want: 987654},
		"cut short":              {stat: "42 (redis) S 1 2 3", fail: true},
		"empty":                  {stat: "", fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := startTime([]byte(tc.stat))
			must.Eq(t, tc.fail, err != nil)
			must.Eq(t, tc.want, got)
		})
	}
}

func TestIdentify(t *testing.T) {
	self, err := Identify(os.Getpid())
	must.NoError(t, err)
	must.Eq(t, os.Getpid(), self.PID)
	must.Positive(t, self.Start)

	again, err := Identify(os.Getpid())
	must.NoError(t, err)
	must.Eq(t, self, again)

	_, err = Identify(maxPID)
	must.ErrorIs(t, err, ErrGone)
	for _, pid := range []int{0, -1, maxPID + 1} {
		_, err = Identify(pid)
		must.Error(t, err)
	}
}
