package driver

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
)

func TestCPUWeight(t *testing.T) {
	for shares, want := range map[int64]uint64{-1: 0, 0: 0, 1: 1, 19: 1, 100: 10, 1000: 100, 100000: 10000, 400000: 10000} {
		must.Eq(t, want, cpuWeight(shares), must.Sprint(shares))
	}
}

func TestShares(t *testing.T) {
	var tasks store
	for id, task := range map[string]struct {
		uid    uint32
		shares int64
	}{"a": {1001, 100}, "b": {1001, 250}, "c": {1002, 500}} {
		resources := &drivers.Resources{NomadResources: &structs.AllocatedTaskResources{Cpu: structs.AllocatedCpuResources{CpuShares: task.shares}}}
		tasks.put(id, testTask(id, task.uid, resources))
	}
	tasks.put("d", testTask("d", 1001, nil))
	must.Eq(t, 350, tasks.shares(1001))
	must.Eq(t, 500, tasks.shares(1002))
	must.Zero(t, tasks.shares(1003))
}

func testTask(id string, uid uint32, resources *drivers.Resources) *task {
	return &task{cfg: &drivers.TaskConfig{ID: id, Resources: resources}, state: taskState{HostUID: uid}, taken: closed}
}

// However many tasks change, each host user is looked at once, and root never.
func TestTouchedUsers(t *testing.T) {
	w := newWeights()
	for range 30 {
		w.touch(1001)
		w.touch(0)
	}
	w.mark(1002)
	<-w.wake
	must.Eq(t, map[uint32]bool{1001: true, 1002: true}, w.take())
	must.MapEmpty(t, w.take())
}

// Whoever has a weight is known to the next process of the driver, also when that weight could not be taken back.
func TestWeightNotes(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "weights")
	works := func() error { return nil }
	fails := func() error { return errors.New("no bus") }
	noted := func() map[uint32]bool {
		driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
		must.NoError(t, err)
		must.NoError(t, driver.touchWeighed(notes))
		return driver.weights.take()
	}

	must.MapEmpty(t, noted())
	must.False(t, isWeighed(notes, 1001))
	must.NoError(t, setWeight(notes, 1001, 40, works))
	must.Error(t, setWeight(notes, 1002, 40, fails))
	must.Error(t, setWeight(notes, 1001, 0, fails))
	must.NoError(t, os.WriteFile(filepath.Join(notes, "no-uid"), nil, 0o600))
	must.Eq(t, map[uint32]bool{1001: true, 1002: true}, noted())
	must.True(t, isWeighed(notes, 1002))

	must.NoError(t, setWeight(notes, 1001, 0, works))
	must.Eq(t, map[uint32]bool{1002: true}, noted())
}
