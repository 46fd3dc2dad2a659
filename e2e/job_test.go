//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// job is a job of jobs/ that a test has registered.
type job struct{ *api.Job }

// run registers a job file, changed by edits, and purges the job when the test ends.
func run(t testing.TB, name string, edits ...func(*api.Job)) *job {
	t.Helper()
	parsed := parse(t, name, edits...)
	_, _, err := nomad.Jobs().Register(parsed, nil)
	must.NoError(t, err)
	j := &job{Job: parsed}
	t.Cleanup(func() { j.purge(t) })
	return j
}

// parse has the server parse a job file.
func parse(t testing.TB, name string, edits ...func(*api.Job)) *api.Job {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("jobs", name+".nomad.hcl"))
	must.NoError(t, err)
	parsed, err := nomad.Jobs().ParseHCL(string(text), true)
	must.NoError(t, err)
	for _, edit := range edits {
		edit(parsed)
	}
	deaf(parsed)
	return parsed
}

// deaf gives tasks that only sleep no time to end: as the first process of a container, sleep heeds no SIGTERM, and every
// test would wait for Nomad's five seconds.
func deaf(j *api.Job) {
	atOnce := 100 * time.Millisecond
	for _, group := range j.TaskGroups {
		for _, task := range group.Tasks {
			if task.Config["command"] == "sleep" && task.Config["init"] == nil && task.KillTimeout == nil {
				task.KillTimeout = &atOnce
			}
		}
	}
}

// option sets an option of the config block of every task.
func option(name string, value any) func(*api.Job) {
	return func(j *api.Job) {
		for _, group := range j.TaskGroups {
			for _, task := range group.Tasks {
				task.Config[name] = value
			}
		}
	}
}

// optionOf sets an option of one task.
func optionOf(task, name string, value any) func(*api.Job) {
	return func(j *api.Job) {
		for _, group := range j.TaskGroups {
			for _, candidate := range group.Tasks {
				if candidate.Name == task {
					candidate.Config[name] = value
				}
			}
		}
	}
}

// only drops the other groups of the job.
func only(groups ...string) func(*api.Job) {
	return func(j *api.Job) {
		j.TaskGroups = slices.DeleteFunc(j.TaskGroups, func(group *api.TaskGroup) bool {
			return !slices.Contains(groups, *group.Name)
		})
	}
}

// stop stops the job as an operator does, and leaves its allocations to be looked at.
func (j *job) stop(t *testing.T) {
	t.Helper()
	_, _, err := nomad.Jobs().Deregister(*j.ID, false, &api.WriteOptions{Namespace: j.namespace()})
	must.NoError(t, err)
}

// purge ends the job and removes it, its allocations and their directories.
func (j *job) purge(t testing.TB) {
	t.Helper()
	if t.Failed() {
		j.tell(t)
	}
	allocs := j.allocs(t)
	_, _, err := nomad.Jobs().Deregister(*j.ID, true, &api.WriteOptions{Namespace: j.namespace()})
	must.NoError(t, err)
	for _, stub := range allocs {
		var index uint64
		eventually(t, "the end of allocation "+stub.ID, func() error {
			alloc, meta, err := nomad.Allocations().Info(stub.ID, &api.QueryOptions{WaitIndex: index, WaitTime: 10 * time.Second})
			if err != nil {
				return err
			}
			index = meta.LastIndex
			if !alloc.ClientTerminalStatus() {
				return fmt.Errorf("it is %s", alloc.ClientStatus)
			}
			return nil
		})
	}
	var collected time.Time
	for _, stub := range allocs {
		eventually(t, "the removal of allocation "+stub.ID, func() error {
			if _, err := os.Stat(placed(j.Job).allocDir(stub.ID)); os.IsNotExist(err) {
				return nil
			}
			// Nomad collects nothing whose evaluation is still under way, and does not come back to it.
			if time.Since(collected) > time.Second {
				collected = time.Now()
				must.NoError(t, nomad.System().GarbageCollect())
			}
			return errors.New("its directory is still there")
		})
	}
}

// tell shows what Nomad knows about the job's tasks, for people who look for a failure.
func (j *job) tell(t testing.TB) {
	evaluations, _, err := nomad.Jobs().Evaluations(*j.ID, &api.QueryOptions{Namespace: j.namespace()})
	must.NoError(t, err)
	for _, evaluation := range evaluations {
		for group, metric := range evaluation.FailedTGAllocs {
			t.Logf("group %s was not placed (%s): lacks %v, filtered by %v", group, evaluation.Status, metric.DimensionExhausted, metric.ConstraintFiltered)
		}
	}
	for _, stub := range j.allocs(t) {
		for name, state := range stub.TaskStates {
			t.Logf("task %s of allocation %s is %s", name, stub.ID, state.State)
			for _, event := range state.Events {
				t.Logf("  %s: %s", event.Type, event.DisplayMessage)
			}
		}
	}
}

// namespace is the job's Nomad namespace.
func (j *job) namespace() string {
	if j.Namespace == nil {
		return api.DefaultNamespace
	}
	return *j.Namespace
}

func (j *job) allocs(t testing.TB) []*api.AllocationListStub {
	t.Helper()
	allocs, _, err := nomad.Jobs().Allocations(*j.ID, true, &api.QueryOptions{Namespace: j.namespace()})
	must.NoError(t, err)
	return allocs
}

// group is the name of the task's group.
func (j *job) group(task string) string {
	for _, group := range j.TaskGroups {
		for _, candidate := range group.Tasks {
			if candidate.Name == task {
				return *group.Name
			}
		}
	}
	return ""
}

// state is the newest allocation with that task and the task's state in it, once Nomad knows more than at the index.
func (j *job) state(task string, index uint64) (*api.AllocationListStub, *api.TaskState, uint64, error) {
	stubs, meta, err := nomad.Jobs().Allocations(*j.ID, true, &api.QueryOptions{Namespace: j.namespace(), WaitIndex: index, WaitTime: 10 * time.Second})
	if err != nil {
		return nil, nil, 0, err
	}
	slices.SortFunc(stubs, func(a, b *api.AllocationListStub) int { return int(b.CreateIndex) - int(a.CreateIndex) })
	for _, stub := range stubs {
		if stub.TaskGroup == j.group(task) {
			return stub, stub.TaskStates[task], meta.LastIndex, nil
		}
	}
	return nil, nil, meta.LastIndex, nil
}

// await waits until a task's state satisfies the condition. It asks Nomad to tell when that changes, since an answer
// costs an emulated machine a lot.
func (j *job) await(t *testing.T, task, what string, condition func(*api.TaskState) error) (*api.Allocation, *api.TaskState) {
	t.Helper()
	deadline := time.Now().Add(patience)
	var index uint64
	for {
		stub, state, now, err := j.state(task, index)
		must.NoError(t, err)
		unmet := errors.New("it has no allocation")
		if stub != nil {
			unmet = fmt.Errorf("allocation %s is %s: %s", stub.ID, stub.ClientStatus, stub.ClientDescription)
		}
		if state != nil {
			unmet = condition(state)
		}
		if unmet == nil {
			alloc, _, err := nomad.Allocations().Info(stub.ID, nil)
			must.NoError(t, err)
			return alloc, state
		}
		if time.Now().After(deadline) {
			t.Fatalf("task %s of job %s: %s: not within %s: %v", task, *j.ID, what, patience, unmet)
		}
		index = now
	}
}

// running waits until the task runs. One that has ended fails the test at once.
func (j *job) running(t *testing.T, task string) *api.Allocation {
	t.Helper()
	alloc, state := j.await(t, task, "running", func(state *api.TaskState) error {
		if state.State == "pending" {
			return fmt.Errorf("it is pending: %s", lastEvent(state))
		}
		return nil
	})
	must.Eq(t, "running", state.State, must.Sprintf("task %s: %s", task, lastEvent(state)))
	return alloc
}

// dead waits until the task has ended for good.
func (j *job) dead(t *testing.T, task string) (*api.Allocation, *api.TaskState) {
	t.Helper()
	return j.await(t, task, "dead", func(state *api.TaskState) error {
		if state.State != "dead" {
			return fmt.Errorf("it is %s: %s", state.State, lastEvent(state))
		}
		return nil
	})
}

// succeeded waits for the end of a task that exits with 0 and returns its standard output.
func (j *job) succeeded(t *testing.T, task string) string {
	t.Helper()
	alloc, state := j.dead(t, task)
	must.False(t, state.Failed, must.Sprintf("task %s: %s\n%s", task, events(state), j.log(t, alloc, task, "stderr")))
	return string(j.log(t, alloc, task, "stdout"))
}

// says waits until an event of the task says the text.
func (j *job) says(t *testing.T, task, text string) *api.TaskState {
	t.Helper()
	_, state := j.await(t, task, "the event "+text, func(state *api.TaskState) error {
		if !strings.Contains(events(state), text) {
			return fmt.Errorf("its events are:\n%s", events(state))
		}
		return nil
	})
	return state
}

func lastEvent(state *api.TaskState) string {
	if len(state.Events) == 0 {
		return "no event"
	}
	return state.Events[len(state.Events)-1].DisplayMessage
}

// events are the texts of the task's events, as `nomad alloc status` shows them.
func events(state *api.TaskState) string {
	var lines []string
	for _, event := range state.Events {
		lines = append(lines, event.Type+": "+event.DisplayMessage)
	}
	return strings.Join(lines, "\n")
}

// terminated is the last event about the exit of the task's process.
func terminated(t *testing.T, state *api.TaskState) *api.TaskEvent {
	t.Helper()
	for _, event := range slices.Backward(state.Events) {
		if event.Type == api.TaskTerminated {
			return event
		}
	}
	t.Fatalf("the task has no event about its exit:\n%s", events(state))
	return nil
}

// log is what a task has written to "stdout" or "stderr", as Nomad's API gives it.
func (j *job) log(t *testing.T, alloc *api.Allocation, task, stream string) []byte {
	t.Helper()
	content, err := readLog(alloc, task, stream)
	must.NoError(t, err)
	return content
}

func readLog(alloc *api.Allocation, task, stream string) ([]byte, error) {
	cancel := make(chan struct{})
	frames, errs := nomad.AllocFS().Logs(alloc, false, task, stream, "start", 0, cancel, nil)
	if frames == nil {
		return nil, <-errs
	}
	reader := api.NewFrameReader(frames, errs, cancel)
	content, err := io.ReadAll(reader)
	if closed := reader.Close(); err == nil {
		err = closed
	}
	return content, err
}

// prints waits until a task has written the text to its standard output, and returns all of it up to there.
func (j *job) prints(t *testing.T, task, text string) string {
	t.Helper()
	alloc, _ := j.await(t, task, "started", func(state *api.TaskState) error {
		if state.State == "pending" {
			return fmt.Errorf("it is pending: %s", lastEvent(state))
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		content, err := follow(ctx, alloc, task, text)
		if err == nil {
			return content
		}
		// The agent may be starting.
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			t.Fatalf("task %s has not printed %q within %s, but %q: %v", task, text, patience, content, err)
		}
	}
}

// follow reads a task's standard output until the text has come.
func follow(ctx context.Context, alloc *api.Allocation, task, text string) (string, error) {
	cancel := make(chan struct{})
	defer close(cancel)
	frames, errs := nomad.AllocFS().Logs(alloc, true, task, "stdout", "start", 0, cancel, nil)
	var content []byte
	for !bytes.Contains(content, []byte(text)) {
		select {
		case frame, open := <-frames:
			if !open {
				return string(content), errors.New("the log has ended")
			}
			content = append(content, frame.Data...)
		case err := <-errs:
			return string(content), err
		case <-ctx.Done():
			return string(content), ctx.Err()
		}
	}
	return string(content), nil
}

// allocDir is the directory of an allocation under the lab's data_dir.
func allocDir(alloc string) string { return labClient.allocDir(alloc) }

// event is the first event of a type.
func event(t *testing.T, state *api.TaskState, kind string) *api.TaskEvent {
	t.Helper()
	for _, event := range state.Events {
		if event.Type == kind {
			return event
		}
	}
	t.Fatalf("the task has no event %q:\n%s", kind, events(state))
	return nil
}

// once lets no task be tried again.
func once(j *api.Job) {
	never, no, fail := 0, false, "fail"
	for _, group := range j.TaskGroups {
		group.RestartPolicy.Attempts, group.RestartPolicy.Mode = &never, &fail
		group.ReschedulePolicy = &api.ReschedulePolicy{Attempts: &never, Unlimited: &no}
		for _, task := range group.Tasks {
			task.RestartPolicy = group.RestartPolicy
		}
	}
}
