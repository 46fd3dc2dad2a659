package books

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// tasksWithoutContainer finds running tasks that do not have exactly one running container.
func tasksWithoutContainer(l *look) ([]string, error) {
	count := map[task]int{}
	for _, c := range l.running() {
		t, _ := c.task()
		count[t]++
	}
	var left []string
	for _, t := range l.tasks {
		if count[t] != 1 {
			left = append(left, fmt.Sprintf("%s runs, with %d running containers", t, count[t]))
		}
	}
	return left, nil
}

// strayContainers finds containers that are not a running task's, and ended ones of a running task.
func strayContainers(l *look) ([]string, error) {
	var left []string
	for _, c := range l.containers {
		t, labelled := c.task()
		switch {
		case !labelled:
			left = append(left, fmt.Sprintf("%s is %s and no task's", c, c.State.Status))
		case !l.isRunning(t):
			left = append(left, fmt.Sprintf("%s is %s, but %s does not run", c, c.State.Status, t))
		case !c.runs():
			left = append(left, fmt.Sprintf("%s is %s, but %s runs", c, c.State.Status, t))
		}
	}
	return left, nil
}

// strayStorage finds containers in a user's storage that podman did not list: those of users whose manager does not
// run, and those that podman has forgotten.
func strayStorage(l *look) ([]string, error) {
	listed := map[string]bool{}
	for _, c := range l.containers {
		listed[c.ID] = true
	}
	var left []string
	for _, u := range l.users {
		path := filepath.Join(u.storage(), "overlay-containers/containers.json")
		text, err := l.host.read(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return left, err
		}
		var stored []struct {
			ID    string
			Names []string
		}
		if err := json.Unmarshal([]byte(text), &stored); err != nil {
			return left, fmt.Errorf("%s: %w", path, err)
		}
		for _, c := range stored {
			if !listed[c.ID] {
				left = append(left, fmt.Sprintf("container %.12s %v is in the storage of %s (%s)", c.ID, c.Names, u.name, path))
			}
		}
	}
	return left, nil
}
