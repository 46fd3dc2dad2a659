//go:build e2e

package e2e

import (
	"os"
	"testing"

	"github.com/shoenig/test/must"
)

// Activation and watching do not depend on which program the bus is.
func TestBroker(t *testing.T) {
	if os.Getenv("LAB_BOOT") == "1" {
		command(t, "systemctl", "enable", "dbus-broker.service")
		command(t, "systemctl", "--global", "enable", "dbus-broker.service")
		os.Exit(rebootCode)
	}
	must.Eq(t, "dbus-broker.service", command(t, "systemctl", "show", "--property=Id", "--value", "dbus.service"))
	must.False(t, teamB.managerRuns())

	j := run(t, "routing")
	runsAs(t, j, "unnamed", teamA)
	runsAs(t, j, "named", root)
	runsAs(t, j, "user", teamB)
	must.Eq(t, "dbus-broker.service", teamA.systemctl(t, "show", "--property=Id", "--value", "dbus.service"))

	began := now(t)
	teamA.systemctl(t, "stop", "podman.socket")
	noticed(t, began, "podman.socket is inactive")
	again := run(t, "routing", only("unnamed"), renamed("routing-again"))
	runsAs(t, again, "unnamed", teamA)
}
