//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// client is a Nomad client agent of the machine.
type client struct {
	user    hostUser // as whom it runs
	tasks   hostUser // as whom it runs the tasks that name nobody
	dataDir string
	class   string // of its node
}

// labClient is the machine's own.
var labClient = client{user: root, tasks: teamA, dataDir: "/opt/nomad/data"}

// stateDir is where labClient's driver keeps its records (plugin option state_dir).
const stateDir = "/var/lib/nomad-driver-podman"

// place has a job run there.
func (c client) place(j *api.Job) {
	if c != labClient {
		j.Constraints = append(j.Constraints, api.NewConstraint("${node.class}", "=", c.class))
	}
}

// placed is where place has the job run.
func placed(j *api.Job) client {
	for _, constraint := range j.Constraints {
		if constraint.LTarget == "${node.class}" && constraint.RTarget == unprivileged.class {
			return unprivileged
		}
	}
	return labClient
}

// allocDir is the directory of an allocation there.
func (c client) allocDir(alloc string) string { return filepath.Join(c.dataDir, "alloc", alloc) }

// letGo has a task go on that waits for the file local/go, such as for its being watched.
func (c client) letGo(t *testing.T, alloc *api.Allocation, task string) {
	t.Helper()
	must.NoError(t, os.WriteFile(filepath.Join(c.allocDir(alloc.ID), task, "local", "go"), nil, 0o600))
}

// readyNode is the client's node, once it can run tasks of this driver.
func (c client) readyNode() (*api.Node, error) {
	nodes, _, err := nomad.Nodes().List(nil)
	if err != nil {
		return nil, err
	}
	for _, stub := range nodes {
		if stub.NodeClass != c.class {
			continue
		}
		node, _, err := nomad.Nodes().Info(stub.ID, nil)
		if err != nil {
			return nil, err
		}
		if driver := node.Drivers["podman"]; node.Status == api.NodeStatusReady && driver != nil && driver.Healthy {
			return node, nil
		}
	}
	return nil, fmt.Errorf("no node of class %q is ready with a healthy podman driver among %d", c.class, len(nodes))
}
