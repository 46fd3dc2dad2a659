//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"github.com/shoenig/test/must"
)

func TestResources(t *testing.T) {
	oversubscribe(t)
	for owner, socket := range map[hostUser]string{teamA: "default", root: "rootful"} {
		t.Run(owner.name, func(t *testing.T) {
			j := run(t, "resources", option("socket", socket))
			alloc := j.running(t, "small")
			j.running(t, "large")
			small, large := owner.container(t, alloc, "small"), owner.container(t, alloc, "large")

			// The runtime's formula from shares to weight has changed with its versions, the order has not.
			must.Greater(t, number(t, small.cgroupFile(t, "cpu.weight")), number(t, large.cgroupFile(t, "cpu.weight")))

			must.Eq(t, fmt.Sprint(32<<20), small.cgroupFile(t, "memory.max"))
			must.Eq(t, "0", small.cgroupFile(t, "memory.low"))
			must.Eq(t, fmt.Sprint(128<<20), large.cgroupFile(t, "memory.max"))
			must.Eq(t, fmt.Sprint(64<<20), large.cgroupFile(t, "memory.low"))
		})
	}
}
