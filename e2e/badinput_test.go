//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// What cannot be is refused with a sentence that names the option and says what to do, and leaves nothing behind.
func TestBadInput(t *testing.T) {
	bareUser(t, "team-bare")
	j := run(t, "badinput")

	for _, tc := range []struct {
		task string
		says []string
	}{
		{"unknown-user", []string{`"host_user"`, `"team-unknown"`}},
		{"forbidden-user", []string{`"host_user"`, `"daemon" is not allowed`, "rootless.min_uid"}},
		{"root-user", []string{`"host_user"`, "root cannot be", "socket option"}},
		{"no-subids", []string{"team-bare", "/etc/subuid", "usermod --add-subuids"}},
		{"unknown-socket", []string{`"socket"`, `"nowhere"`, `["default" "rootful"]`}},
		{"two-endpoints", []string{`"host_user"`, `"socket"`, "keep one of the two"}},
		{"missing-image", []string{"docker.io/library/no-such-image:1", "registry"}},
		{"no-image", []string{`"image"`, "is required", "docker://redis:7"}},
		{"image-name", []string{`"image"`, `"docker://Redis:"`, "name[:tag]"}},
		{"image-transport", []string{`"image"`, `"ftp" is not supported`, "docker://"}},
		{"malformed-volume", []string{`"volumes"`, `"local:here"`, "source:destination[:options]"}},
		{"missing-volume", []string{`"volumes"`, "local/nothing"}},
		{"escaping-volume", []string{`"volumes"`, "../../../../etc"}},
		{"malformed-tmpfs", []string{`"tmpfs"`, `"/a:/b:/c"`, "destination[:options]"}},
		{"negative-port", []string{`"port_map"`, `"web" = -1`, "1 to 65535"}},
		{"unknown-port", []string{`"ports"`, `"web"`, "network block"}},
		{"unknown-network", []string{`"network_mode"`, `"token-ring"`, "slirp4netns"}},
		{"pull-timeout", []string{`"image_pull_timeout"`, `"-5m"`, "more than zero"}},
		{"working-dir", []string{`"working_dir"`, `"here"`, "absolute path"}},
		{"small-swap", []string{`"memory_swap"`, "16m", "memory limit (32 MB)"}},
		{"unknown-option", []string{"comand"}},
		{"wrong-type", []string{"command"}},
	} {
		t.Run(tc.task, func(t *testing.T) {
			_, state := j.dead(t, tc.task)
			must.True(t, state.Failed)
			must.True(t, state.StartedAt.IsZero(), must.Sprint("the task was started"))
			for _, words := range tc.says {
				must.StrContains(t, events(state), words)
			}
		})
	}

	must.SliceEmpty(t, teamA.containers(t))
	must.SliceEmpty(t, root.containers(t))
	must.SliceEmpty(t, stagingMounts(t))
}

// Nomad itself refuses these before any driver sees them.
func TestNegativeResources(t *testing.T) {
	for option, change := range map[string]func(*api.Resources, *int){
		"cpu":        func(resources *api.Resources, negative *int) { resources.CPU = negative },
		"memory":     func(resources *api.Resources, negative *int) { resources.MemoryMB = negative },
		"memory_max": func(resources *api.Resources, negative *int) { resources.MemoryMaxMB = negative },
	} {
		t.Run(option, func(t *testing.T) {
			negative := -5
			parsed := parse(t, "redis", func(j *api.Job) { change(j.TaskGroups[0].Tasks[0].Resources, &negative) })
			_, _, err := nomad.Jobs().Register(parsed, nil)
			must.ErrorContains(t, err, "value")
		})
	}
}

// bareUser makes a host user without subordinate IDs.
func bareUser(t *testing.T, name string) {
	t.Helper()
	command(t, "useradd", "--create-home", name)
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		content, err := os.ReadFile(file)
		must.NoError(t, err)
		var others strings.Builder
		for line := range strings.Lines(string(content)) {
			if !strings.HasPrefix(line, name+":") {
				others.WriteString(line)
			}
		}
		must.NoError(t, os.WriteFile(file, []byte(others.String()), 0o644))
	}
	t.Cleanup(func() { command(t, "userdel", "--remove", name) })
}
