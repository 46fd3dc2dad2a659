package driver

import (
	"context"
	"errors"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/rootless"
)

// RunTest runs a container for a host user.
func RunTest(ctx context.Context, plugin *config.Plugin, user rootless.User, socket string, version string) error {
	return errors.New("not yet")
}
