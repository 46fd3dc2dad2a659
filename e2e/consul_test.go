//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/shoenig/test/must"
)

// checkUpdate is what Nomad tells Consul about a script check (Consul's HTTP API, "TTL Check Update").
type checkUpdate struct{ Status, Output string }

// consul answers Nomad in place of a Consul agent, until the test ends. Nomad runs script checks for nobody else. The
// function returns what it was told last.
func consul(t *testing.T) func() checkUpdate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:8500")
	must.NoError(t, err)
	var mu sync.Mutex
	var last checkUpdate
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1/agent/self":
			_, _ = io.WriteString(w, `{"Config": {"Server": true, "Version": "1.15.0", "Revision": "e2e", "Datacenter": "dc1", "NodeName": "lab"},
				"Member": {"Tags": {"segment": ""}}, "DebugConfig": {"ConnectEnabled": false, "GRPCPort": 8502}}`)
		case strings.HasPrefix(r.URL.Path, "/v1/agent/check/update/"):
			mu.Lock()
			defer mu.Unlock()
			_ = json.NewDecoder(r.Body).Decode(&last)
		default:
			_, _ = io.WriteString(w, "{}") // no services, no checks; registrations are welcome
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { must.NoError(t, server.Close()) })
	return func() checkUpdate {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}
