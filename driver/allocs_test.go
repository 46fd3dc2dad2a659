package driver

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	nomadalloc "github.com/hashicorp/nomad/client/allocdir"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
	"github.com/shoenig/test/wait"

	"nomad-driver-podman/allocdir"
	"nomad-driver-podman/exits"
)

// sleepingTask is a task in an allocation that Nomad has built, whose process is one that sleeps.
func sleepingTask(t *testing.T, driver *Driver) (*task, *nomadalloc.AllocDir) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	alloc := nomadalloc.NewAllocDir(hclog.NewNullLogger(), t.TempDir(), "alloc-id")
	must.NoError(t, alloc.Build())
	sleep := exec.Command("sleep", "1d")
	must.NoError(t, sleep.Start())
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
	process, err := exits.Identify(sleep.Process.Pid)
	must.NoError(t, err)
	boot, err := bootID()
	must.NoError(t, err)
	sleeper := &task{cfg: &drivers.TaskConfig{ID: "alloc-id/web", Name: "web", AllocDir: alloc.AllocDir}, taken: closed, state: taskState{BootID: boot}}
	sleeper.process, err = driver.exits.Watch(process)
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, sleeper.release()) })
	return sleeper, alloc
}

func awaitKilled(t *testing.T, killed *task) {
	t.Helper()
	select {
	case <-killed.process.Done():
	case <-time.After(time.Minute):
		t.Fatal("the task goes on")
	}
	must.ErrorIs(t, killed.knownFate(), allocdir.ErrReplaced)
}

// replaceLogs is what a task could do while Nomad has the directories open, and what Nomad then finds.
func replaceLogs(t *testing.T, alloc *nomadalloc.AllocDir) {
	t.Helper()
	logs := filepath.Join(alloc.SharedDir, "logs")
	must.NoError(t, os.Rename(logs, logs+".was"))
	must.NoError(t, os.Mkdir(logs, 0o700))
	must.NoError(t, os.Symlink("/etc/shadow", filepath.Join(logs, "web.stdout.0")))
}

func TestReplacedLogsEndTheTask(t *testing.T) {
	driver, _ := driverWithEvents(t)
	sleeper, alloc := sleepingTask(t, driver)
	driver.tasks.put(sleeper.cfg.ID, sleeper)
	var err error
	sleeper.state.LogsDir, sleeper.letGoAlloc, err = driver.closeOff(sleeper.cfg, allocdir.ID{})
	must.NoError(t, err)
	replaceLogs(t, alloc)
	must.NoError(t, alloc.Build())
	awaitKilled(t, sleeper)
	_, err = os.Lstat(filepath.Join(alloc.SharedDir, "logs/web.stdout.0"))
	must.ErrorIs(t, err, os.ErrNotExist)
}

func TestLogsReplacedWhileTheDriverWasAway(t *testing.T) {
	driver, _ := driverWithEvents(t)
	sleeper, alloc := sleepingTask(t, driver)
	id, release, err := driver.closeOff(sleeper.cfg, allocdir.ID{})
	must.NoError(t, err)
	release()
	sleeper.state.LogsDir = id
	replaceLogs(t, alloc)
	must.True(t, driver.closeOffAgain(sleeper))
	driver.endReplaced(sleeper)
	awaitKilled(t, sleeper)
}

// An allocation may have no task when the agent starts, one that waits for its next try for example.
func TestAllocationWithoutTask(t *testing.T) {
	driver, _ := driverWithEvents(t)
	sleeper, alloc := sleepingTask(t, driver)
	id, release, err := driver.closeOff(sleeper.cfg, allocdir.ID{})
	must.NoError(t, err)
	must.NoError(t, driver.node.allocs.put(allocNote{Path: alloc.AllocDir, Logs: id, BootID: sleeper.state.BootID}))
	release()

	driver.expectBuild(driver.node)
	must.NoError(t, alloc.Build())
	must.Wait(t, wait.InitialSuccess(wait.BoolFunc(func() bool {
		logs, err := os.Stat(filepath.Join(alloc.SharedDir, "logs"))
		must.NoError(t, err)
		shared, err := os.Stat(alloc.SharedDir)
		must.NoError(t, err)
		return logs.Mode().Perm() == 0o755 && shared.Mode()&os.ModeSticky != 0
	}), wait.Timeout(time.Minute), wait.Gap(time.Millisecond)))
	driver.node.cancel()
	driver.node.background.Wait()

	// The note goes with the directory.
	must.NoError(t, os.RemoveAll(alloc.AllocDir))
	notes, err := driver.node.allocs.all()
	must.NoError(t, err)
	must.SliceEmpty(t, notes)
	files, err := os.ReadDir(driver.node.allocs.dir)
	must.NoError(t, err)
	must.SliceEmpty(t, files)
}

func TestRecoveredTaskGoesOn(t *testing.T) {
	driver, events := driverWithEvents(t)
	sleeper, alloc := sleepingTask(t, driver)
	id, release, err := driver.closeOff(sleeper.cfg, allocdir.ID{})
	must.NoError(t, err)
	release()
	sleeper.state.LogsDir = id
	must.NoError(t, alloc.Build())
	must.NoError(t, os.Symlink("/etc/shadow", filepath.Join(alloc.SharedDir, "logs/a\nb")))
	var closing sync.WaitGroup
	closing.Go(func() { must.False(t, driver.closeOffAgain(sleeper)) })
	must.Eq(t, `Removed from alloc/logs what could have led Nomad elsewhere: "a\nb"`, nextEvent(t, events))
	closing.Wait()
	driver.allocBuilt(driver.node, sleeper)
	must.NoError(t, sleeper.knownFate())
	select {
	case <-sleeper.process.Done():
		t.Fatal("the task was killed")
	default:
	}
}
