package sockets

import (
	"context"

	"nomad-driver-podman/finding"
)

// FindSystemd looks at the system's systemd and bus.
func FindSystemd(ctx context.Context) []finding.Finding { return nil }

// FindAgentUnit looks at the unit that runs the Nomad agent.
func FindAgentUnit(ctx context.Context, unit string) []finding.Finding { return nil }

// Find looks at the endpoint: its user's manager, podman.socket, and podman behind it. It starts nothing.
func (e *Endpoint) Find(ctx context.Context) []finding.Finding { return nil }
