//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
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

// processorTime is what a process has used (fields 14 and 15 of proc_pid_stat(5), in hundredths of a second).
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must.NoError(t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // from field 3 on
	return time.Duration(number(t, fields[11])+number(t, fields[12])) * 10 * time.Millisecond
}
