//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

func TestSecurity(t *testing.T) {
	for name, socket := range map[string]string{"rootless": "default", "rootful": "rootful"} {
		t.Run(name, func(t *testing.T) {
			j := run(t, "security", option("socket", socket))

			plain := j.probe(t, "plain").Capabilities["bounding"]
			must.SliceNotEmpty(t, plain)
			for _, dangerous := range []string{"SYS_ADMIN", "SYS_TIME", "NET_ADMIN"} {
				must.SliceNotContains(t, plain, dangerous)
			}

			privileged := j.probe(t, "privileged")
			must.SliceContainsSubset(t, privileged.Capabilities["effective"], append(slices.Clone(plain), "SYS_ADMIN", "SYS_TIME", "NET_ADMIN"))
			// The host's devices, such as its disk.
			must.SliceContains(t, privileged.Devices, "vda")

			added := j.probe(t, "added").Capabilities["effective"]
			must.SliceContainsSubset(t, added, append(slices.Clone(plain), "SYS_TIME", "NET_ADMIN"))

			must.Eq(t, []string{"CHOWN"}, j.probe(t, "dropped").Capabilities["bounding"])

			_, options := j.probe(t, "readonly").mount(t, "/")
			must.SliceContains(t, strings.Split(options, ","), "ro")
			_, options = j.probe(t, "plain").mount(t, "/")
			must.SliceContains(t, strings.Split(options, ","), "rw")
		})
	}
}
