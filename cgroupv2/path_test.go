package cgroupv2

import (
	"math"
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

func TestUnified(t *testing.T) {
	for name, tc := range map[string]struct {
		text, want string
		gone, fail bool
	}{
		"unified":        {text: "0::/user.slice/a.scope\n", want: "/user.slice/a.scope"},
		"hybrid":         {text: "4:memory:/x\n1:name=systemd:/y\n0::/z\n", want: "/z"},
		"colons":         {text: "0::/a:0::b\n", want: "/a:0::b"},
		"root":           {text: "0::/\n", want: "/"},
		"deleted":        {text: "0::/a.scope (deleted)\n", gone: true, fail: true},
		"legacy":         {text: "4:memory:/x\n", fail: true},
		"other ns":       {text: "0::/../../b\n", fail: true},
		"not absolute":   {text: "0::b\n", fail: true},
		"controller '0'": {text: "10::/b\n", fail: true},
		"empty":          {text: "", fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := unified(tc.text)
			must.Eq(t, tc.fail, err != nil)
			if tc.gone {
				must.ErrorIs(t, err, ErrGone)
			}
			if !tc.fail {
				must.Eq(t, tc.want, got)
			}
		})
	}
}

func TestUnified_Legacy(t *testing.T) {
	_, err := unified("4:memory:/x\n1:name=systemd:/x\n")
	must.ErrorIs(t, err, ErrNoHierarchy)
}

func TestOf(t *testing.T) {
	mode, err := DetectMode()
	if err != nil || mode == Legacy {
		t.Skip("no cgroup v2 tree is mounted here")
	}
	path, err := Of(os.Getpid())
	must.NoError(t, err)
	must.StrHasPrefix(t, "/", path)

	_, err = Of(math.MaxInt32)
	must.ErrorIs(t, err, ErrGone)
}

func TestInUserManager(t *testing.T) {
	const manager = "/user.slice/user-1001.slice/user@1001.service"
	for path, want := range map[string]bool{
		manager + "/user.slice/libpod-1.scope": true,
		manager + "/x":                         true,
		manager:                                false,
		manager + "/":                          false,
		manager + "/../user@1002.service/x":    false,
		manager + "x/y":                        false,
		"/user.slice/user-1002.slice/user@1002.service/x": false,
		"/user.slice/user-1001.slice/session-1.scope":     false,
		"user.slice/user-1001.slice/user@1001.service/x":  false,
		"/nomad.slice" + manager + "/x":                   false,
		"":                                                false,
	} {
		must.Eq(t, want, InUserManager(path, 1001), must.Sprint(path))
	}
}
