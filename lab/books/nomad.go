package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// task is one task of an allocation.
type task struct{ alloc, name string }

func (t task) String() string { return fmt.Sprintf("task %s of allocation %s", t.name, t.alloc) }

// takeTasks asks Nomad which of this driver's tasks run. When a task is not running any more, Nomad has had the driver
// destroy it: it calls DestroyTask before it says so (taskrunner's Run and clearDriverHandle, Nomad 1.6.0).
func (m *machine) takeTasks(ctx context.Context, l *look) error {
	var allocs []struct {
		ID, ClientStatus string
		TaskStates       map[string]struct{ State string }
	}
	if err := m.ask(ctx, "/v1/allocations?namespace=*", &allocs); err != nil {
		return err
	}
	l.allocs = map[string]bool{}
	for _, alloc := range allocs {
		// The node of a lost one is gone.
		if alloc.ClientStatus == "lost" {
			continue
		}
		l.allocs[alloc.ID] = alloc.ClientStatus == "pending" || alloc.ClientStatus == "running"
		var running []string
		for name, state := range alloc.TaskStates {
			if state.State == "running" {
				running = append(running, name)
			}
		}
		if len(running) == 0 {
			continue
		}
		drivers, err := m.drivers(ctx, alloc.ID)
		if err != nil {
			return err
		}
		for _, name := range running {
			if drivers[name] == "podman" {
				l.tasks = append(l.tasks, task{alloc.ID, name})
			}
		}
	}
	return nil
}

// drivers are the drivers of an allocation's tasks.
func (m *machine) drivers(ctx context.Context, id string) (map[string]string, error) {
	var alloc struct {
		TaskGroup string
		Job       struct {
			TaskGroups []struct {
				Name  string
				Tasks []struct{ Name, Driver string }
			}
		}
	}
	if err := m.ask(ctx, "/v1/allocation/"+id, &alloc); err != nil {
		return nil, err
	}
	drivers := map[string]string{}
	for _, group := range alloc.Job.TaskGroups {
		for _, t := range group.Tasks {
			if group.Name == alloc.TaskGroup {
				drivers[t.Name] = t.Driver
			}
		}
	}
	return drivers, nil
}

// ask decodes an answer of Nomad's API.
func (m *machine) ask(ctx context.Context, path string, answer any) error {
	return get(ctx, http.DefaultClient, m.nomad+path, answer)
}

func get(ctx context.Context, client *http.Client, url string, answer any) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(answer)
}
