package cgroupv2

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// redisCgroup holds the files of a container's cgroup with cpu, memory and pids delegated, as
// Linux 6.12 shows them.
func redisCgroup() map[string]string {
	memoryStat := "anon 3000000\nfile 2000000\nkernel 1000000\nshmem 4096\nfile_mapped 1500000\n"
	for i := range 50 {
		memoryStat += fmt.Sprintf("workingset_and_others_%d %d\n", i, i*4096)
	}
	return map[string]string{
		"cgroup.controllers":  "cpu memory pids\n",
		"cpu.stat":            "usage_usec 5000001\nuser_usec 3000000\nsystem_usec 2000001\nnice_usec 0\nnr_periods 70\nnr_throttled 8\nthrottled_usec 90000\nnr_bursts 0\nburst_usec 0\n",
		"memory.current":      "6000000\n",
		"memory.peak":         "7000000\n",
		"memory.max":          "268435456\n",
		"memory.swap.current": "8192\n",
		"memory.stat":         memoryStat,
		"memory.events":       "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
		"pids.current":        "5\n",
		"pids.max":            "2048\n",
	}
}

const redisPath = "/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-1.scope"

func openRedis(t testing.TB, files map[string]string) (Hierarchy, *Reader) {
	t.Helper()
	h := fakeHierarchy(t, map[string]map[string]string{redisPath: files})
	r, err := h.Open(redisPath)
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, r.Close()) })
	return h, r
}

func TestReader_Read(t *testing.T) {
	all := CPUTime | CPUThrottling | MemoryUsage | MemoryPeak | MemoryLimit | MemoryBreakdown | SwapUsage | Processes
	whole := Stats{
		Measured: all,
		CPUTotal: 5000001 * time.Microsecond, CPUUser: 3 * time.Second, CPUSystem: 2000001 * time.Microsecond,
		Periods: 70, ThrottledPeriods: 8, ThrottledTime: 90 * time.Millisecond,
		Memory: 6000000, MemoryPeak: 7000000, MemoryLimit: 268435456, Swap: 8192,
		Anon: 3000000, File: 2000000, FileMapped: 1500000,
		PIDs: 5,
	}
	for name, tc := range map[string]struct {
		files map[string]string // instead of redisCgroup's; "" removes the file
		want  func(*Stats)
	}{
		"whole":    {want: func(*Stats) {}},
		"no limit": {files: map[string]string{"memory.max": "max\n"}, want: func(s *Stats) { s.MemoryLimit = math.MaxUint64 }},
		"Linux < 5.19": {files: map[string]string{"memory.peak": ""}, want: func(s *Stats) {
			s.MemoryPeak = 0
			s.Measured &^= MemoryPeak
		}},
		"no swap accounting": {files: map[string]string{"memory.swap.current": ""}, want: func(s *Stats) {
			s.Swap = 0
			s.Measured &^= SwapUsage
		}},
		"nothing delegated": {files: map[string]string{
			"cpu.stat":       "usage_usec 1000000\nuser_usec 400000\nsystem_usec 600000\n",
			"memory.current": "", "memory.peak": "", "memory.max": "", "memory.swap.current": "", "memory.stat": "", "pids.current": "",
		}, want: func(s *Stats) {
			*s = Stats{Measured: CPUTime, CPUTotal: time.Second, CPUUser: 400 * time.Millisecond, CPUSystem: 600 * time.Millisecond}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			files := redisCgroup()
			maps.Copy(files, tc.files)
			maps.DeleteFunc(files, func(_, text string) bool { return text == "" })
			_, r := openRedis(t, files)

			want := whole
			tc.want(&want)
			got := Stats{PIDs: 77, Measured: Processes} // of an earlier sample
			must.NoError(t, r.Read(&got))
			must.Eq(t, want, got)
			must.Eq(t, want.Measured == all, got.Has(all))
		})
	}
}

func TestReader_ReadsAnew(t *testing.T) {
	h, r := openRedis(t, redisCgroup())
	var s Stats
	must.NoError(t, r.Read(&s))
	must.Eq(t, 5, s.PIDs)

	file := filepath.Join(h.Root, redisPath, "pids.current")
	must.NoError(t, os.WriteFile(file, []byte("123\n"), 0o644))
	must.NoError(t, r.Read(&s))
	must.Eq(t, 123, s.PIDs)

	must.NoError(t, os.WriteFile(file, []byte("many\n"), 0o644))
	err := r.Read(&s)
	must.ErrorContains(t, err, redisPath)
	must.ErrorContains(t, err, "pids.current")
}

func TestReader_Idle(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string
		idle       bool
	}{
		"nothing has changed": {"memory.stat", "anon 3000000\n", true},
		"processor time":      {"cpu.stat", "usage_usec 5000002\n", false},
		"memory":              {"memory.current", "6004096\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			h, r := openRedis(t, redisCgroup())
			var s Stats
			must.NoError(t, r.Read(&s))
			must.NoError(t, os.WriteFile(filepath.Join(h.Root, redisPath, test.file), []byte(test.text), 0o644))
			idle, err := r.Idle(&s)
			must.NoError(t, err)
			must.Eq(t, test.idle, idle)
		})
	}
	_, r := openRedis(t, map[string]string{"cpu.stat": "usage_usec 7\n"}) // no controller is delegated
	idle, err := r.Idle(&Stats{CPUTotal: 7 * time.Microsecond})
	must.NoError(t, err)
	must.True(t, idle)
}

func TestReader_OOMKills(t *testing.T) {
	_, r := openRedis(t, redisCgroup())
	kills, err := r.OOMKills()
	must.NoError(t, err)
	must.Eq(t, 2, kills)

	// What was seen last is known on.
	must.NoError(t, r.Close())
	kills, err = r.OOMKills()
	must.ErrorIs(t, err, os.ErrClosed)
	must.Eq(t, 2, kills)

	files := redisCgroup()
	delete(files, "memory.events")
	_, r = openRedis(t, files)
	must.SliceEmpty(t, r.Events())
	_, err = r.OOMKills()
	must.ErrorIs(t, err, ErrNotMeasured)
}

// A cgroup that is gone before its last OOM kill was read is judged by what its parent has counted.
func TestReader_OOMKillsOfRemoved(t *testing.T) {
	const limitHit, quiet = "max 9\noom_kill 0\n", "max 0\noom_kill 0\n"
	for name, tc := range map[string]struct {
		own, above string
		before     time.Duration
		changed    string // what the kernel has reported to have changed since
		want       uint64
	}{
		"at its limit":                    {own: limitHit, above: "oom_kill 4\n", want: 1},
		"killed by other ways":            {own: limitHit, above: "oom_kill 3\n"},
		"never at its limit":              {own: quiet, above: "oom_kill 4\n"},
		"seen long ago":                   {own: limitHit, above: "oom_kill 4\n", before: time.Minute},
		"parent without count":            {own: limitHit},
		"at its limit at once":            {own: quiet, above: "oom_kill 4\n", before: time.Hour, changed: "memory.events", want: 1},
		"the same, killed by other ways":  {own: quiet, above: "oom_kill 3\n", before: time.Hour, changed: "memory.events"},
		"at its limit of processes":       {own: quiet, above: "oom_kill 4\n", changed: "pids.events"},
		"the same, parent without count":  {own: quiet, changed: "memory.events"},
		"at its limit, and again at once": {own: limitHit, above: "oom_kill 4\n", changed: "memory.events", want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			files := redisCgroup()
			files["memory.events"], files["pids.events"] = tc.own, "max 0\n"
			above := map[string]string{}
			if tc.above != "" {
				above["memory.events"] = "oom_kill 3\n"
			}
			h := fakeHierarchy(t, map[string]map[string]string{filepath.Dir(redisPath): above, redisPath: files})
			r, err := h.Open(redisPath)
			must.NoError(t, err)
			t.Cleanup(func() { _ = r.Close() }) // reports that a file is closed already
			kills, err := r.OOMKills()
			must.NoError(t, err)
			must.Eq(t, 0, kills)

			must.NoError(t, r.events.Close()) // like the file of a removed cgroup, it cannot be read any more
			r.seen.at = r.seen.at.Add(-tc.before)
			for _, file := range r.Events() {
				if file.Name() == tc.changed {
					r.Changed(file)
				}
			}
			// The last is another cgroup's, later.
			for _, count := range []string{tc.above, tc.above, "oom_kill 5\n"} {
				if tc.above != "" {
					must.NoError(t, os.WriteFile(filepath.Join(h.Root, filepath.Dir(redisPath), "memory.events"), []byte(count), 0o600))
				}
				kills, err = r.OOMKills()
				must.Error(t, err)
				must.Eq(t, tc.want, kills)
			}
		})
	}
}

// A change that was read says nothing about later ones.
func TestReader_ChangedAndRead(t *testing.T) {
	files := redisCgroup()
	files["memory.events"] = "max 0\noom_kill 0\n"
	h := fakeHierarchy(t, map[string]map[string]string{filepath.Dir(redisPath): {"memory.events": "oom_kill 3\n"}, redisPath: files})
	r, err := h.Open(redisPath)
	must.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() }) // reports that a file is closed already
	r.Changed(r.events)
	_, err = r.OOMKills()
	must.NoError(t, err)
	must.NoError(t, r.events.Close())
	must.NoError(t, os.WriteFile(filepath.Join(h.Root, filepath.Dir(redisPath), "memory.events"), []byte("oom_kill 4\n"), 0o600))
	kills, err := r.OOMKills()
	must.Error(t, err)
	must.Eq(t, 0, kills)
}

func TestReader_Closed(t *testing.T) {
	_, r := openRedis(t, redisCgroup())
	must.NoError(t, r.Close())
	must.NoError(t, r.Close())
	must.ErrorIs(t, r.Read(new(Stats)), os.ErrClosed)
	_, err := r.OOMKills()
	must.ErrorIs(t, err, os.ErrClosed)
}

func TestFlatKeyed(t *testing.T) {
	for name, tc := range map[string]struct {
		text, want string
		fail       bool
	}{
		"two":       {text: "a 1\nb 2\n", want: "a=1 b=2 "},
		"empty":     {text: ""},
		"cut off":   {text: "a 1\nb 2", want: "a=1 "},
		"no value":  {text: "a\n", fail: true},
		"no number": {text: "a -1\n", fail: true},
		"max":       {text: "a max\n", want: fmt.Sprintf("a=%d ", uint64(math.MaxUint64))},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			err := flatKeyed([]byte(tc.text), func(key []byte, value uint64) { fmt.Fprintf(&got, "%s=%d ", key, value) })
			must.Eq(t, tc.fail, err != nil)
			must.Eq(t, tc.want, got.String())
		})
	}
}

func TestMicroseconds(t *testing.T) {
	must.Eq(t, 3*time.Second, microseconds(3000000))
	must.Positive(t, microseconds(math.MaxUint64))
}

func TestReader_ReadAllocatesNothing(t *testing.T) {
	_, r := openRedis(t, redisCgroup())
	var s Stats
	var err error
	allocs := testing.AllocsPerRun(100, func() { err = r.Read(&s) })
	must.NoError(t, err)
	must.Zero(t, allocs)
	allocs = testing.AllocsPerRun(100, func() { _, err = r.Idle(&s) })
	must.NoError(t, err)
	must.Zero(t, allocs)
}

// TestReader_RealCgroup makes a cgroup of its own: a fake file neither vanishes under an open
// descriptor nor starts at the beginning again as those of the kernel do.
func TestReader_RealCgroup(t *testing.T) {
	h, err := Mounted()
	if err != nil {
		t.Skip(err)
	}
	self, err := Of(os.Getpid())
	must.NoError(t, err)
	path := filepath.Join(self, fmt.Sprintf("cgroupv2-test-%d", os.Getpid()))
	dir := filepath.Join(h.Root, path)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })

	cgroup, err := os.Open(dir)
	must.NoError(t, err)
	defer func() { _ = cgroup.Close() }()
	busy := exec.Command("sh", "-c", "while :; do :; done")
	busy.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	must.NoError(t, busy.Start())
	t.Cleanup(func() {
		_ = busy.Process.Kill()
		_ = busy.Wait()
	})
	of, err := Of(busy.Process.Pid)
	must.NoError(t, err)
	must.Eq(t, path, of)

	r, err := h.Open(path)
	must.NoError(t, err)
	defer func() { must.NoError(t, r.Close()) }()
	var s Stats
	for deadline := time.Now().Add(20 * time.Second); s.CPUTotal < 50*time.Millisecond; {
		must.NoError(t, r.Read(&s))
		must.True(t, s.Has(CPUTime))
		must.True(t, time.Now().Before(deadline), must.Sprint("a busy process uses no CPU time"))
	}

	must.NoError(t, r.Look())
	seen, _ := r.Looks()
	must.True(t, seen.Has(CPUTime))

	must.NoError(t, busy.Process.Kill())
	_ = busy.Wait()
	must.NoError(t, os.Remove(dir))
	must.ErrorIs(t, r.Read(&s), ErrGone)
	must.ErrorIs(t, r.Look(), ErrGone)
	kept, _ := r.Looks()
	must.Eq(t, seen, kept)
	_, err = h.Open(path)
	must.ErrorIs(t, err, ErrGone)
}

func BenchmarkReader_Read(b *testing.B) {
	_, r := openRedis(b, redisCgroup())
	var s Stats
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Read(&s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReader_Idle(b *testing.B) {
	_, r := openRedis(b, redisCgroup())
	var s Stats
	must.NoError(b, r.Read(&s))
	b.ReportAllocs()
	for b.Loop() {
		if idle, err := r.Idle(&s); !idle || err != nil {
			b.Fatal(idle, err)
		}
	}
}

// BenchmarkContainerd is what Reader is measured against.
func BenchmarkContainerd(b *testing.B) {
	h := fakeHierarchy(b, map[string]map[string]string{redisPath: redisCgroup()})
	m, err := cgroup2.Load(redisPath, cgroup2.WithMountpoint(h.Root))
	must.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Stat(); err != nil {
			b.Fatal(err)
		}
	}
}
