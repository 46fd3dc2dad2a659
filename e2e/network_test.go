//go:build e2e

package e2e

import (
	"net"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
)

func TestNetworkModes(t *testing.T) {
	t.Run("rootless", func(t *testing.T) {
		j := run(t, "network", only("network", "user-mode"))
		host := hostAddress(t)

		// podman's own choice for rootless containers; pasta copies the host's address.
		must.SliceContains(t, j.probe(t, "default").addresses("eth0"), host)
		must.SliceContains(t, j.probe(t, "private").addresses("eth0"), host)
		must.StrHasPrefix(t, "10.88.", j.probe(t, "bridge").addresses("eth0")[0])
		must.Len(t, 1, j.probe(t, "none").Interfaces)
		must.NotNil(t, j.probe(t, "none").addresses("lo"))
		must.SliceContains(t, j.probe(t, "host").addresses("eth0"), host)

		must.SliceContains(t, j.probe(t, "slirp").addresses("tap0"), "10.0.2.100/24")
		must.SliceContains(t, j.probe(t, "slirp-options").addresses("tap0"), "10.42.0.100/24")
		must.SliceContains(t, j.probe(t, "pasta").addresses("eth0"), host)
		must.SliceContains(t, j.probe(t, "pasta-options").addresses("tap7"), host)
	})

	t.Run("rootful", func(t *testing.T) {
		j := run(t, "network", without("pasta"), without("pasta-options"), option("socket", "rootful"))
		must.StrHasPrefix(t, "10.88.", j.probe(t, "default").addresses("eth0")[0])
		must.StrHasPrefix(t, "10.88.", j.probe(t, "private").addresses("eth0")[0])
		must.StrHasPrefix(t, "10.88.", j.probe(t, "bridge").addresses("eth0")[0])
		must.Len(t, 1, j.probe(t, "none").Interfaces)
		must.SliceContains(t, j.probe(t, "host").addresses("eth0"), hostAddress(t))
		must.SliceContains(t, j.probe(t, "slirp").addresses("tap0"), "10.0.2.100/24")
		must.SliceContains(t, j.probe(t, "slirp-options").addresses("tap0"), "10.42.0.100/24")
		// The group's network beats network_mode; Nomad's bridge has addresses of this range.
		shared := j.probe(t, "shared")
		must.StrHasPrefix(t, "172.26.", shared.addresses("eth0")[0])
		must.Eq(t, "search e2e.test\nnameserver 10.9.8.7\noptions ndots:3", shared.ResolvConf)
	})

	t.Run("pasta is rootless only", func(t *testing.T) {
		j := run(t, "network", only("user-mode"), option("socket", "rootful"), once)
		_, state := j.dead(t, "pasta")
		must.StrContains(t, events(state), `config option "network_mode": pasta is for rootless endpoints only`)
	})
}

// hostAddress is the machine's address and prefix on its network interface.
func hostAddress(t *testing.T) string {
	t.Helper()
	link, err := net.InterfaceByName("eth0")
	must.NoError(t, err)
	addresses, err := link.Addrs()
	must.NoError(t, err)
	for _, address := range addresses {
		if !strings.Contains(address.String(), ":") {
			return address.String()
		}
	}
	t.Fatal("the machine has no IPv4 address")
	return ""
}
