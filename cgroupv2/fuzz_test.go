package cgroupv2

import (
	"fmt"
	"math"
	"path"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/fuzz"
)

// maxError is what an error about a file of the kernel's may be long, bytes.
const maxError = 300

// Whatever a process has called its cgroup: what is found is what the kernel's line says, and it is a clean path.
func FuzzUnified(f *testing.F) {
	f.Add("/user.slice/a.scope", "")
	f.Add("/z", "4:memory:/x\n1:name=systemd:/y\n0::/z\n")
	f.Add("/a:0::b", "0::/../../b\n")
	f.Add("/user.slice/user-1001.slice/user@1001.service/../x", "0::/a.scope (deleted)\n")
	f.Fuzz(func(t *testing.T, cgroup, text string) {
		for _, text := range []string{text, "4:memory:/x\n0::" + cgroup + "\n"} {
			var found string
			var err error
			fuzz.Cheap(t, len(text), 16, func() { found, err = unified(text) })
			if err != nil {
				continue
			}
			must.StrContains(t, text, "0::"+found)
			must.EqOp(t, path.Clean("/"+found), found)
			if InUserManager(found, 1001) {
				must.StrHasPrefix(t, "/user.slice/user-1001.slice/user@1001.service/", found)
			}
		}
		if cgroup == path.Clean("/"+cgroup) && !strings.Contains(cgroup, "\n") && !strings.HasSuffix(cgroup, " (deleted)") {
			found, err := unified("0::" + cgroup + "\n")
			must.NoError(t, err)
			must.EqOp(t, cgroup, found)
		}
	})
}

// FuzzFiles has each parser of a cgroup's files read a text: what is measured is a number that JSON can say.
func FuzzFiles(f *testing.F) {
	for _, text := range limitedCgroup() {
		f.Add([]byte(text))
	}
	f.Add([]byte("some avg10=NaN avg60=1.00 total=18446744073709551615\n"))
	f.Add([]byte("some avg10=0x" + strings.Repeat("1", 1000) + "\n"))
	f.Add([]byte(strings.Repeat("\xff", 1000) + "\n"))
	f.Add([]byte(strings.Repeat("\xff", 1000) + " x\n"))
	f.Add([]byte("0 0\n"))
	f.Add([]byte("usage_usec 18446744073709551615\nuser_usec -1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzz.Cheap(t, len(text), 64, func() {
			for _, source := range sources {
				var s Stats
				if err := source.parse(text, &s); err != nil {
					must.LessEq(t, maxError, len(err.Error()), must.Sprint(source.file))
				}
				for _, d := range []int64{int64(s.CPUTotal), int64(s.CPUUser), int64(s.CPUSystem), int64(s.ThrottledTime)} {
					must.GreaterEq(t, 0, d)
				}
			}
			for _, source := range lookSources {
				var l Look
				if err := source.parse(text, &l); err != nil {
					must.LessEq(t, maxError, len(err.Error()), must.Sprint(source.file))
					continue
				}
				must.GreaterEq(t, 0, l.CPUQuota)
				must.GreaterEq(t, 0, l.CPUPeriod)
				for _, p := range []Pressure{l.CPUPressure, l.MemoryPressure, l.IOPressure} {
					for _, stall := range []Stall{p.Some, p.Full} {
						must.True(t, stall.Avg10 >= 0 && stall.Avg10 <= math.MaxFloat64)
						must.GreaterEq(t, 0, stall.Total)
					}
				}
			}
		})
	})
}

// The kernel's list of processes is understood, and nothing else is.
func FuzzPIDs(f *testing.F) {
	f.Add("12\n345\n", uint32(1), uint32(4194304))
	f.Add("x\n", uint32(0), uint32(7))
	f.Add("-1\n+2\n", uint32(0), uint32(7))
	f.Add(strings.Repeat("9", 1000), uint32(0), uint32(7))
	f.Fuzz(func(t *testing.T, text string, a, b uint32) {
		a, b = a>>1, b>>1
		pids, err := parsePIDs(strings.NewReader(fmt.Sprintf("%d\n%d\n", a, b)))
		must.NoError(t, err)
		must.Eq(t, []int{int(a), int(b)}, pids)
		fuzz.Cheap(t, len(text), 64, func() { pids, err = parsePIDs(strings.NewReader(text)) })
		if err != nil {
			must.LessEq(t, maxError, len(err.Error()))
		}
		for _, pid := range pids {
			must.GreaterEq(t, 0, pid)
		}
	})
}

// FuzzKernelLog reads records of whatever users' processes and cgroups are called. A container's kill is found, and no
// container's is where its name is no cgroup's.
func FuzzKernelLog(f *testing.F) {
	f.Add("/user.slice/libpod-4f2a.scope/container", "dd", "6,1,0,-;Linux")
	f.Add("/a.scope,task=x", "4f2a", "6,1,0,-;oom-kill:,task_memcg=/b,task=4f2a,pid=1,uid=0")
	f.Add("/a", ",task_memcg=/4f2a,task=", "")
	f.Fuzz(func(t *testing.T, cgroup, command, other string) {
		command = command[:min(len(command), 15)] // TASK_COMM_LEN
		kill := "6,812,53211873,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/,task_memcg=" + cgroup + ",task=" + command + ",pid=1,uid=0\n"
		name := "libpod-4f2a"
		search := func(records ...string) bool {
			found, err := hasOOMKill(func(record []byte) (int, error) {
				if len(records) == 0 {
					return 0, unix.EAGAIN
				}
				n := copy(record, records[0])
				records = records[1:]
				return n, nil
			}, name)
			must.NoError(t, err)
			return found
		}
		if whole := len(kill) < 8<<10 && !strings.Contains(cgroup, ",task"); whole {
			must.Eq(t, strings.Contains(cgroup, name), search(kill))
		}
		if !strings.Contains(other, ",task_memcg=") {
			must.False(t, search(other))
		}
		search(other, kill)
	})
}
