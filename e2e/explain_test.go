//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// explained is what `explain -json` says of the end of a task.
type explained struct {
	Summary, Cause              string
	Task, Job, Group, Namespace string
	AllocID                     string `json:"alloc_id"`
	HostUser                    string `json:"host_user"`
	UID                         *int
	Socket, Image               string
	ContainerID                 string     `json:"container_id"`
	StartedAt                   *time.Time `json:"started_at"`
	EndedAt                     time.Time  `json:"ended_at"`
	Exit                        *struct {
		Code      int
		Signal    string
		OOMKilled bool `json:"oom_killed"`
	}
	Error, PodmanError string
	Cgroup             *struct {
		BeforeEnd float64 `json:"before_end_seconds"`
		Memory    *struct {
			Limit  *int `json:"limit_bytes"`
			Peak   *int `json:"peak_bytes"`
			Events struct {
				Max int
			}
		}
		PIDs *struct {
			Limit, Peak *int
			Refused     int `json:"refused_forks"`
		}
		CPU *struct {
			Used float64 `json:"used_seconds"`
		}
	}
	Stderr []string
}

// explain asks the driver's program about the only end of a task, and checks that it tells people the same.
func explain(t *testing.T, alloc *api.Allocation, task string) explained {
	t.Helper()
	var ends []explained
	must.NoError(t, json.Unmarshal([]byte(command(t, pluginFile, "explain", alloc.ID[:8], "-task", task, "-json")), &ends))
	must.Len(t, 1, ends)
	end := ends[0]
	must.Eq(t, alloc.ID, end.AllocID)
	must.Eq(t, task, end.Task)
	must.Eq(t, task, end.Group)
	must.Eq(t, "explain", end.Job)
	text := command(t, pluginFile, "explain", alloc.ID)
	must.StrContains(t, text, `Task "`+task+`" of allocation `+alloc.ID+": "+end.Summary+"\n")
	return end
}

// endedBadly waits for the bad end of a task that has run, of which an event must tell with these words.
func endedBadly(t *testing.T, j *job, owner hostUser, task string, words ...string) explained {
	t.Helper()
	alloc, _ := j.dead(t, task)
	end := explain(t, alloc, task)
	must.StrContains(t, events(j.says(t, task, end.Summary)), "Driver: "+end.Summary)
	for _, word := range words {
		must.StrContains(t, end.Summary, word)
	}
	must.Eq(t, owner.name, end.HostUser)
	must.Eq(t, owner.uid, *end.UID)
	must.StrContains(t, end.Image, "busybox")
	must.NotNil(t, end.StartedAt)
	must.True(t, end.EndedAt.After(*end.StartedAt))
	return end
}

func TestExplain(t *testing.T) {
	const limit = 32 << 20
	for owner, socket := range map[hostUser]string{teamA: "default", root: "rootful"} {
		t.Run(owner.name, func(t *testing.T) {
			j := run(t, "explain", option("socket", socket), only("oom", "exit", "killed"))

			t.Run("out of memory", func(t *testing.T) {
				labClient.letGo(t, j.running(t, "oom"), "oom")
				end := endedBadly(t, j, owner, "oom", "The kernel killed it for its memory: limit 32MiB, peak ", `last on stderr: "allocating"`)
				must.Eq(t, "oom", end.Cause)
				must.True(t, end.Exit.OOMKilled)
				must.Eq(t, limit, *end.Cgroup.Memory.Limit)
				must.Between(t, limit*8/10, *end.Cgroup.Memory.Peak, limit)
				must.Positive(t, end.Cgroup.Memory.Events.Max)
			})

			t.Run("exit code", func(t *testing.T) {
				end := endedBadly(t, j, owner, "exit", "It ended with exit code 3", `last on stderr: "two | three | four"`)
				must.Eq(t, "exit", end.Cause)
				must.Eq(t, 3, end.Exit.Code)
				must.Eq(t, []string{"one", "two", "three", "four"}, end.Stderr)
			})

			t.Run("signal", func(t *testing.T) {
				j.prints(t, "killed", "ready")
				kill(t, owner.container(t, j.running(t, "killed"), "killed").State.Pid)
				end := endedBadly(t, j, owner, "killed", "It ended by signal SIGKILL (exit code 137)", `last on stderr: "waiting"`)
				must.Eq(t, "signal", end.Cause)
				must.False(t, end.Exit.OOMKilled)
				must.Eq(t, "SIGKILL", end.Exit.Signal)
				// The last look was Nomad's, when it was not at the end.
				must.Less(t, 20, end.Cgroup.BeforeEnd)
				must.Positive(t, end.Cgroup.CPU.Used)
				must.Eq(t, limit, *end.Cgroup.Memory.Limit)
			})
		})
	}

	j := run(t, "explain", only("forks", "stopped", "child", "image", "command", "recovered", "unseen"))

	t.Run("limit of processes", func(t *testing.T) {
		j.prints(t, "forks", "ready")
		running := teamA.container(t, j.running(t, "forks"), "forks")
		must.NoError(t, os.WriteFile(filepath.Join(running.cgroup(), "pids.max"), []byte("1"), 0o644))
		end := endedBadly(t, j, teamA, "forks", "It was at its limit of processes (1, ", "refused in the last ", "can't fork")
		must.Eq(t, "pids_limit", end.Cause)
		must.Eq(t, 1, *end.Cgroup.PIDs.Limit)
		must.Positive(t, end.Cgroup.PIDs.Refused)
	})

	t.Run("no such image", func(t *testing.T) {
		alloc, state := j.dead(t, "image")
		end := explain(t, alloc, "image")
		must.Eq(t, "image", end.Cause)
		must.StrContains(t, end.Error, "getting the image: pulling image")
		must.Eq(t, "docker://no-such-image:1", end.Image)
		must.Eq(t, "team-a", end.HostUser)
		must.Nil(t, end.StartedAt)
		must.Nil(t, end.Exit)
		must.Eq(t, 1, strings.Count(events(state), "getting the image: pulling image"), must.Sprint(events(state)))
	})

	t.Run("no such program", func(t *testing.T) {
		alloc, state := j.dead(t, "command")
		end := explain(t, alloc, "command")
		must.Eq(t, "start", end.Cause)
		must.StrContains(t, end.Error, "starting the container: ")
		must.StrContains(t, end.Error, "/no/such/program") // the runtime's words
		must.Nil(t, end.StartedAt)
		must.Eq(t, 1, strings.Count(events(state), "starting the container: "), must.Sprint(events(state)))
	})

	t.Run("a killed child is no end", func(t *testing.T) {
		j.says(t, "child", "The kernel has killed a process of the task for its memory (limit 32MiB, peak ")
		j.prints(t, "child", "ready")
		alloc := j.running(t, "child")
		_, err := try(pluginFile, "explain", alloc.ID)
		must.ErrorContains(t, err, "has no record of allocation")
	})

	t.Run("with another driver", func(t *testing.T) {
		j.prints(t, "recovered", "ready")
		alloc := j.running(t, "recovered")
		running := teamA.container(t, alloc, "recovered")
		kill(t, labClient.driverProcess(t))
		killed := time.Now()
		eventually(t, "another driver that measures the task", func() error { return sampled(alloc, "recovered", killed) })
		kill(t, running.State.Pid)
		end := endedBadly(t, j, teamA, "recovered", "It ended by signal SIGKILL (exit code 137)", `last on stderr: "waiting"`)
		must.Eq(t, running.ID, end.ContainerID)
		must.Eq(t, limit, *end.Cgroup.Memory.Limit)
	})

	t.Run("while no driver looked", func(t *testing.T) {
		j.prints(t, "unseen", "ready")
		endUnseen(t, teamA.container(t, j.running(t, "unseen"), "unseen"))
		end := endedBadly(t, j, teamA, "unseen", "It ended with exit code 9", `last on stderr: "waiting"`)
		must.Nil(t, end.Cgroup)
	})

	t.Run("what Nomad has asked for is no bad end", func(t *testing.T) {
		j.prints(t, "stopped", "ready")
		j.stop(t)
		alloc, state := j.dead(t, "stopped")
		must.Eq(t, "143", terminated(t, state).Details["exit_code"])
		must.StrNotContains(t, events(state), "It ended")
		_, err := try(pluginFile, "explain", alloc.ID)
		must.ErrorContains(t, err, "has no record of allocation")
	})
}

// sampled tells whether a driver has measured the task after a time: then it has looked at the cgroup.
func sampled(alloc *api.Allocation, task string, after time.Time) error {
	usage, err := nomad.Allocations().Stats(alloc, nil)
	if err != nil {
		return err
	}
	if sample := usage.Tasks[task]; sample == nil || sample.Timestamp <= after.UnixNano() {
		return fmt.Errorf("the last sample is %+v", sample)
	}
	return nil
}
