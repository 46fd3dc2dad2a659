//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

// rebootCode is the exit code at which the lab reboots the machine and runs the tests again, with LAB_BOOT one higher
// (lab/reboot.go).
const rebootCode = 86

// After a reboot nothing is taken for done that was not: the batch task, which returns 0 when it is told to end, has
// failed and says why, the service runs again, and the books balance.
func TestReboot(t *testing.T) {
	if os.Getenv("LAB_BOOT") == "1" {
		parsed := parse(t, "reboot")
		_, _, err := nomad.Jobs().Register(parsed, nil)
		must.NoError(t, err)
		j := &job{Job: parsed}
		for _, task := range []string{"batch", "service"} {
			j.prints(t, task, "ready")
		}
		// The clean-up would end the job.
		os.Exit(rebootCode)
	}

	j := &job{Job: parse(t, "reboot")}
	t.Cleanup(func() { j.purge(t) })
	_, batch := j.dead(t, "batch")
	must.True(t, batch.Failed, must.Sprint(events(batch)))
	exit := terminated(t, batch)
	// podman may or may not have seen its end, and the driver that of the manager only.
	must.RegexMatch(t, regex("nobody knows (how|whether it was done)"), exit.DisplayMessage)

	j.prints(t, "service", "ready\nready\n")
	alloc := j.running(t, "service")
	must.Eq(t, []string{containerName(alloc, "service")}, teamA.containers(t))
	_, service, _, err := j.state("service", 0)
	must.NoError(t, err)
	must.Eq(t, 1, service.Restarts)
}
