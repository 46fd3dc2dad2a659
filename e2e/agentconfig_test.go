//go:build e2e

package e2e

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

func TestAgentConfig(t *testing.T) {
	mute, err := net.Listen("unix", "/run/e2e-mute.sock")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, mute.Close()) })
	configureAgent(t, "options")
	t.Cleanup(func() {
		// The log process keeps the state directory that it was started with.
		command(t, "systemctl", "stop", "nomad-podman-logs.service")
		must.NoError(t, os.RemoveAll("/var/lib/e2e-state"))
	})

	t.Run("client_http_timeout", func(t *testing.T) {
		j := run(t, "routing", only("named"), option("socket", "mute"))
		_, state := j.dead(t, "named")
		must.StrContains(t, events(state), "/run/e2e-mute.sock")
		must.StrContains(t, events(state), "no answer within 10s (plugin option client_http_timeout)")
		took := time.Duration(event(t, state, "Driver Failure").Time - event(t, state, "Task Setup").Time)
		must.Between(t, 10*time.Second, took, 60*time.Second)
	})

	t.Run("allow_privileged and allow_caps", testAllowedPrivileges)

	t.Run("state_dir", func(t *testing.T) {
		j := run(t, "routing", only("unnamed"))
		j.running(t, "unnamed")
		info, err := os.Stat("/var/lib/e2e-state")
		must.NoError(t, err)
		must.Eq(t, 0o700|os.ModeDir, info.Mode())
		entries, err := os.ReadDir("/var/lib/e2e-state")
		must.NoError(t, err)
		must.SliceNotEmpty(t, entries)
		_, err = os.Stat(stateDir + "/logs")
		must.ErrorIs(t, err, os.ErrNotExist)
	})
}

func testAllowedPrivileges(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		jobs := map[string]struct {
			socket, option string
			value          any
			says           string
		}{
			"unnamed": {"default", "privileged", true, `config option "privileged": it is not allowed on this socket (plugin option allow_privileged)`},
			"named":   {"default", "cap_add", []string{"net_admin", "Cap_Sys_Admin"}, `config option "cap_add": ["Cap_Sys_Admin"] are not allowed on this socket, only ["NET_ADMIN"] (plugin option allow_caps)`},
			"user":    {"privileged", "cap_add", []string{"all"}, `config option "cap_add": ["all"] are not allowed on this socket, only ["CAP_SYS_TIME"] (plugin option socket.allow_caps of "privileged")`},
		}
		var edits []func(*api.Job)
		for task, tc := range jobs {
			edits = append(edits, optionOf(task, "host_user", ""), optionOf(task, "socket", tc.socket), optionOf(task, tc.option, tc.value))
		}
		j := run(t, "routing", edits...)
		for task, tc := range jobs {
			alloc, state := j.dead(t, task)
			must.True(t, state.StartedAt.IsZero())
			must.StrContains(t, events(state), tc.says)
			must.SliceNotContains(t, teamA.containers(t), containerName(alloc, task))
		}
	})
	t.Run("allowed", func(t *testing.T) {
		j := run(t, "routing", only("unnamed", "named"), optionOf("named", "socket", "privileged"), optionOf("named", "privileged", true),
			optionOf("unnamed", "cap_add", []string{"CAP_net_admin"}))
		must.True(t, teamA.container(t, j.running(t, "named"), "named").HostConfig.Privileged)
		code, stdout, _ := j.exec(t, j.running(t, "unnamed"), "unnamed", nothing(), "grep", "CapEff", "/proc/self/status")
		must.Eq(t, 0, code)
		const netAdmin = 1 << 12 // capabilities(7)
		caps, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(stdout, "CapEff:")), 16, 64)
		must.NoError(t, err)
		must.NotEq(t, 0, caps&netAdmin)
	})
}
