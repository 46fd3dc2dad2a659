//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

func TestPorts(t *testing.T) {
	t.Run("rootless", func(t *testing.T) {
		j := run(t, "ports")
		for _, task := range []string{"to", "same", "bridged", "slirp", "host", "mapped"} {
			answersHTTP(t, j, task)
		}
		// What Nomad's catalogue names is where the task can be reached.
		alloc := j.running(t, "to")
		port := publishedPort(t, alloc, "to")
		eventually(t, "the registration of the service", func() error {
			services, _, err := nomad.Services().Get("to", nil)
			if err != nil {
				return err
			}
			if len(services) != 1 || services[0].Address != port.HostIP || services[0].Port != port.Value {
				return fmt.Errorf("registered is %+v, the port is %+v", services, port)
			}
			return nil
		})
		for name := range teamA.container(t, alloc, "to").NetworkSettings.Ports {
			must.SliceContains(t, []string{"8080/tcp", "8080/udp"}, name)
		}
	})

	t.Run("rootful", func(t *testing.T) {
		j := run(t, "ports", without("slirp"), option("socket", "rootful"))
		for _, task := range []string{"to", "same", "bridged", "host", "mapped"} {
			answersHTTP(t, j, task)
		}
	})
}

// without drops a task.
func without(name string) func(*api.Job) {
	return func(j *api.Job) {
		for _, group := range j.TaskGroups {
			for i, task := range group.Tasks {
				if task.Name == name {
					group.Tasks = append(group.Tasks[:i], group.Tasks[i+1:]...)
					break
				}
			}
		}
	}
}

// answersHTTP waits for a task to answer through the host's port of its own name.
func answersHTTP(t *testing.T, j *job, task string) {
	t.Helper()
	port := publishedPort(t, j.running(t, task), task)
	url := "http://" + net.JoinHostPort(port.HostIP, strconv.Itoa(port.Value)) + "/"
	eventually(t, "task "+task+" at "+url, func() error {
		response, err := http.Get(url)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		if err == nil && string(body) != task+"\n" {
			err = fmt.Errorf("it answered %s: %q", response.Status, body)
		}
		return errors.Join(err, response.Body.Close())
	})
}

// publishedPort is the host's port of a label, of the group or of the task.
func publishedPort(t *testing.T, alloc *api.Allocation, label string) api.PortMapping {
	t.Helper()
	for _, port := range alloc.AllocatedResources.Shared.Ports {
		if port.Label == label {
			return port
		}
	}
	for _, task := range alloc.AllocatedResources.Tasks {
		for _, network := range task.Networks {
			for _, port := range network.DynamicPorts {
				if port.Label == label {
					return api.PortMapping{Label: label, Value: port.Value, HostIP: network.IP}
				}
			}
		}
	}
	t.Fatalf("allocation %s has no port %q", alloc.ID, label)
	return api.PortMapping{}
}
