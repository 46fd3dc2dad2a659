package cgroupv2

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

func TestProcesses(t *testing.T) {
	h := fakeHierarchy(t, map[string]map[string]string{"/a": {"cgroup.procs": "12\n345\n"}, "/empty": {"cgroup.procs": ""}, "/odd": {"cgroup.procs": "x\n"}})
	pids, err := h.Processes("/a")
	must.NoError(t, err)
	must.Eq(t, []int{12, 345}, pids)
	pids, err = h.Processes("/empty")
	must.NoError(t, err)
	must.SliceEmpty(t, pids)
	_, err = h.Processes("/odd")
	must.Error(t, err)
	_, err = h.Processes("/gone")
	must.ErrorIs(t, err, ErrGone)
}

// sleeper is a process in a session of its own.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	child := exec.Command("sleep", "600")
	child.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	must.NoError(t, child.Start())
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	return child
}

func TestKill(t *testing.T) {
	marked, spared := sleeper(t), sleeper(t)
	own, err := Of(marked.Process.Pid)
	must.NoError(t, err)
	procs := map[string]string{"cgroup.procs": fmt.Sprintf("%d\n%d\n", marked.Process.Pid, spared.Process.Pid)}
	h := fakeHierarchy(t, map[string]map[string]string{own: procs, "/of-others": procs})
	belongs := func(pid int) bool {
		session, err := unix.Getsid(pid)
		return err == nil && session == marked.Process.Pid
	}
	alive := func(child *exec.Cmd) bool { return child.Process.Signal(unix.Signal(0)) == nil }

	// The file says so, but the kernel says that the process is in another cgroup.
	ctx, cancel := context.WithTimeout(t.Context(), 2*killInterval)
	defer cancel()
	must.ErrorIs(t, h.Kill(ctx, "/of-others", belongs), context.DeadlineExceeded)
	must.True(t, alive(marked))

	ended := make(chan error, 1)
	go func() { ended <- marked.Wait() }()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must.NoError(t, h.Kill(ctx, own, belongs))
	must.ErrorContains(t, <-ended, "signal: killed")
	must.True(t, alive(spared))

	must.NoError(t, h.Kill(ctx, "/gone", belongs))
}
