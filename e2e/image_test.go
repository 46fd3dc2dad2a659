//go:build e2e

package e2e

import (
	"net"
	"net/http"
	"os/exec"
	"syscall"
	"testing"

	"github.com/shoenig/test/must"
)

func TestImage(t *testing.T) {
	privateRegistry(t)
	silentRegistry(t)
	j := run(t, "image")

	for task, want := range map[string]string{
		"reference":  "nats-server: v",
		"docker":     "docker\n",
		"short":      "short\n",
		"force-pull": "forced\n",
		"auth":       "authenticated\n",
	} {
		t.Run(task, func(t *testing.T) { must.StrHasPrefix(t, want, j.succeeded(t, task)) })
	}

	t.Run("is pulled when it is not there", func(t *testing.T) {
		_, state := j.dead(t, "reference")
		must.StrContains(t, events(state), "Pulling image docker.io/library/nats:latest")
		must.StrContains(t, events(state), "Pulled image docker.io/library/nats:latest in ")
	})
	t.Run("or when the job says so", func(t *testing.T) {
		_, state := j.dead(t, "short")
		must.StrNotContains(t, events(state), "Pull")
		_, state = j.dead(t, "force-pull")
		must.StrContains(t, events(state), "Pulled image busybox in ")
	})

	for task, words := range map[string][]string{
		"wrong-password": {"127.0.0.1:5443/library/redis", "the registry does not provide the image", "authentication required"},
		"verified":       {"127.0.0.1:5443/library/redis:7", "HTTP response to HTTPS client"},
		"slow":           {"127.0.0.1:5444/library/redis", "image_pull_timeout (3s)"},
	} {
		t.Run(task, func(t *testing.T) {
			_, state := j.dead(t, task)
			must.True(t, state.Failed)
			for _, word := range words {
				must.StrContains(t, events(state), word)
			}
			must.StrNotContains(t, events(state), "opensesame")
			must.StrNotContains(t, events(state), "openbarley")
		})
	}
}

// privateRegistry starts a registry that asks for a password.
func privateRegistry(t *testing.T) {
	t.Helper()
	registry := exec.Command("docker-registry", "serve", "testdata/registry/config.yml")
	must.NoError(t, registry.Start())
	t.Cleanup(func() {
		must.NoError(t, registry.Process.Signal(syscall.SIGTERM))
		_ = registry.Wait() // ended by the signal
	})
	eventually(t, "the private registry", func() error {
		response, err := http.Get("http://127.0.0.1:5443/v2/")
		if err == nil {
			err = response.Body.Close()
		}
		return err
	})
}

// silentRegistry accepts connections and says nothing.
func silentRegistry(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:5444")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, listener.Close()) })
}
