package driver

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
)

// Nomad hands over also the tasks that it has destroyed. Of those that have ended, only what is noted is recovered.
func TestRecoverEnded(t *testing.T) {
	cfg := &drivers.TaskConfig{ID: "1/redis/a", Name: "redis", AllocID: "1", JobName: "redis"}
	note := intent{Container: spec.ContainerName(cfg), TaskID: cfg.ID, Made: time.Now()}
	anotherTry, abandoned := note, note
	anotherTry.TaskID = "1/redis/b"
	abandoned.Made = time.Time{}
	for name, test := range map[string]struct {
		notes     []intent
		recovered bool
	}{
		"noted":       {[]intent{note}, true},
		"destroyed":   {nil, false},
		"another try": {[]intent{anotherTry}, false},
		"abandoned":   {[]intent{abandoned}, false},
	} {
		t.Run(name, func(t *testing.T) {
			driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
			must.NoError(t, err)
			driver.node = testNode(t, config.Plugin{})
			for _, noted := range test.notes {
				must.NoError(t, driver.node.intents.put(noted))
			}
			ended := &task{cfg: cfg, state: taskState{ContainerID: "c", BootID: "an earlier one"}}
			handle, err := ended.handle()
			must.NoError(t, err)

			err = driver.RecoverTask(handle)
			if !test.recovered {
				must.ErrorContains(t, err, "it was destroyed")
				_, err = driver.InspectTask(cfg.ID)
				must.ErrorIs(t, err, drivers.ErrTaskNotFound)
				must.True(t, driver.claims.try(note.Container)) // for the next try
				return
			}
			must.NoError(t, err)
			must.NoError(t, driver.RecoverTask(handle)) // which is known
			status, err := driver.InspectTask(cfg.ID)
			must.NoError(t, err)
			must.Eq(t, "c", status.DriverAttributes["container_id"])
			must.False(t, driver.claims.try(note.Container))
		})
	}
}
