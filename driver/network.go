package driver

import (
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/sockets"
)

// driverNetwork tells Nomad where the task can be reached. The address of a rootless container is the host user's
// own affair and nobody else reaches it, so there Nomad advertises the host's address and the published ports.
func driverNetwork(container *sockets.Container, built *spec.Spec, rootless bool) *drivers.DriverNetwork {
	if len(built.PortMap) == 0 && (rootless || container.NetworkSettings.IPAddress == "") {
		return nil
	}
	network := &drivers.DriverNetwork{PortMap: built.PortMap}
	if !rootless {
		network.IP = container.NetworkSettings.IPAddress
		network.AutoAdvertise = network.IP != ""
	}
	return network
}
