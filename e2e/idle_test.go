//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// Endpoints cost nothing while nobody needs them: four of the twenty are active and watched, the others are only known.
func TestIdle(t *testing.T) {
	configureAgent(t, "idle")
	for socket, user := range map[string]hostUser{"a1": teamA, "b1": teamB, "c1": teamC, "d1": teamD} {
		t.Run(user.name, func(t *testing.T) {
			j := run(t, "routing", only("unnamed"), option("socket", socket))
			runsAs(t, j, "unnamed", user)
		})
	}
	driver := labClient.driverProcess(t)
	before := processorTime(t, driver)
	<-time.After(quietTime) // what is measured is that nothing happens
	used := processorTime(t, driver) - before
	t.Logf("%s of processor time in %s", used, quietTime)
	// Half a hundredth of a processor that is emulated.
	must.LessEq(t, quietTime/200, used)
}
