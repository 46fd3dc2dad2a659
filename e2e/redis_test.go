//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// The job that everybody tries first, with nothing in it that this driver would need.
func TestRedis(t *testing.T) {
	t.Run("rootless", func(t *testing.T) {
		must.False(t, teamA.managerRuns(), must.Sprint("the test shows nothing when somebody has started it before"))
		closed, err := os.Stat(labClient.dataDir)
		must.NoError(t, err)
		must.Eq(t, 0o700|os.ModeDir, closed.Mode())

		j := run(t, "redis")
		redis := answersPing(t, j, teamA)

		must.True(t, teamA.lingers())
		must.SliceNotContains(t, root.containers(t), redis.Name)
		first, last := teamA.subordinateIDs(t)
		for _, uid := range redis.uids(t) {
			must.True(t, uid == teamA.uid || uid >= first && uid <= last, must.Sprintf("a process has UID %d", uid))
		}
		must.StrHasPrefix(t, "/user.slice/user-2001.slice/user@2001.service/", redis.State.CgroupPath)
		must.StrContains(t, j.prints(t, "redis", "Ready to accept connections"), "Redis is starting")
		_, state, _, err := j.state("redis", 0)
		must.NoError(t, err)
		must.StrContains(t, events(state), "Activating the podman socket of host user team-a")
		must.StrContains(t, events(state), "Pulled image docker.io/library/redis:latest")
		closed, err = os.Stat(labClient.dataDir)
		must.NoError(t, err)
		must.Eq(t, 0o700|os.ModeDir, closed.Mode())
	})

	t.Run("short name", func(t *testing.T) {
		answersPing(t, run(t, "redis", option("image", "redis")), teamA)
	})

	t.Run("rootful", func(t *testing.T) {
		j := run(t, "redis", option("socket", "rootful"))
		redis := answersPing(t, j, root)
		must.SliceNotContains(t, teamA.containers(t), redis.Name)
		must.Eq(t, namespace(t, 1, "user"), namespace(t, redis.State.Pid, "user"))
	})
}

// answersPing waits for redis to answer through the published port, and finds its container.
func answersPing(t *testing.T, j *job, owner hostUser) container {
	t.Helper()
	alloc := j.running(t, "redis")
	port := alloc.AllocatedResources.Shared.Ports[0]
	address := net.JoinHostPort(port.HostIP, strconv.Itoa(port.Value))
	eventually(t, "redis at "+address, func() error { return ping(address) })

	redis := owner.container(t, alloc, "redis")
	must.Eq(t, alloc.ID, redis.Config.Labels["com.hashicorp.nomad.alloc_id"])
	must.Eq(t, "redis", redis.Config.Labels["com.hashicorp.nomad.task_name"])
	must.Eq(t, alloc.NodeID, redis.Config.Labels["com.hashicorp.nomad.node_id"])
	published := strconv.Itoa(port.Value)
	for _, protocol := range []string{"tcp", "udp"} {
		bindings := redis.NetworkSettings.Ports["6379/"+protocol]
		must.Len(t, 1, bindings)
		must.Eq(t, port.HostIP, bindings[0].HostIP)
		must.Eq(t, published, bindings[0].HostPort)
	}
	return redis
}

func ping(address string) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && strings.TrimSpace(answer) != "+PONG" {
		err = fmt.Errorf("it answered %q", answer)
	}
	return err
}
