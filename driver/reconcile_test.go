package driver

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/rootless"
)

// Of the containers with this node's label those are removed that are no task's, not new, and not kept.
func TestRemoveStrays(t *testing.T) {
	old, fresh := time.Now().Add(-time.Hour), time.Now()
	container := func(id, task, state string, created time.Time) map[string]any {
		return map[string]any{"Id": id, "Names": []string{id + "-alloc"}, "State": state, "Created": created, "Labels": map[string]string{
			spec.LabelNodeID: "node", spec.LabelAllocID: "alloc", spec.LabelTaskName: task,
		}}
	}
	list, err := json.Marshal([]map[string]any{
		container("owned", "owned", "running", old),
		container("new", "new", "running", fresh),
		container("stray", "stray", "running", old),
		container("ended", "ended", "exited", old),
		container("a-person's", "stray", "running", old), // of an image made of a task's container
	})
	must.NoError(t, err)

	for name, test := range map[string]struct {
		gc      config.GC
		node    string
		removed []string
	}{
		"removed":      {config.GC{Container: true, Dangling: config.Dangling{Grace: time.Minute}}, "node", []string{"stray", "ended"}},
		"ended kept":   {config.GC{Dangling: config.Dangling{Grace: time.Minute}}, "node", []string{"stray"}},
		"dry run":      {config.GC{Container: true, Dangling: config.Dangling{Grace: time.Minute, DryRun: true}}, "node", nil},
		"unknown node": {config.GC{Container: true, Dangling: config.Dangling{Grace: time.Minute}}, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{"json": string(list)}
			for _, id := range []string{"owned", "new", "stray", "ended", "a-person's"} {
				answers[id] = "[]" // to a removal
			}
			endpoint, requests := fakePodman(t, answers)
			node := testNode(t, config.Plugin{GC: test.gc})
			node.learnID(test.node)
			driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
			must.NoError(t, err)
			must.True(t, driver.claims.try("owned-alloc"))
			must.NoError(t, driver.removeStrays(t.Context(), node, endpoint))

			var removed []string
			for _, request := range requests() {
				if id, isRemoval := strings.CutPrefix(request, "DELETE /containers/"); isRemoval {
					removed = append(removed, id)
				}
			}
			must.Eq(t, test.removed, removed)
			// It holds no claim any more.
			for _, task := range []string{"new", "stray", "ended"} {
				must.True(t, driver.claims.try(task+"-alloc"))
			}
			must.True(t, slices.Contains(requests(), "GET /containers/json") == (test.node != ""))
		})
	}
}

// Until Nomad has told its tasks, only what is left of destroyed ones is removed.
func TestReconcile(t *testing.T) {
	for name, test := range map[string]struct {
		known  bool
		remain []string
	}{
		"at the start": {false, []string{"crashed", "new", "running"}},
		"later":        {true, []string{"new", "running"}},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint, _ := fakePodman(t, nil)
			user := endpoint.User()
			node := testNode(t, config.Plugin{
				Sockets: []config.Socket{{Name: "fake", SocketPath: endpoint.Path()}},
				GC:      config.GC{Dangling: config.Dangling{Enabled: true, Grace: time.Minute}},
			})
			node.self = rootless.User{Name: "agent", UID: 65000} // who stages nothing
			for container, made := range map[string]time.Time{
				"abandoned": {}, "crashed": time.Now().Add(-time.Hour), "running": time.Now().Add(-time.Hour), "new": time.Now(),
			} {
				must.NoError(t, node.intents.put(intent{Container: container, HostUID: user.UID, Socket: "fake", Made: made}))
			}
			driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
			must.NoError(t, err)
			must.True(t, driver.claims.try("running"))

			must.True(t, driver.reconcile(t.Context(), node, test.known))
			left, err := node.intents.all()
			must.NoError(t, err)
			var names []string
			for _, i := range left {
				names = append(names, i.Container)
			}
			slices.Sort(names)
			must.Eq(t, test.remain, names)
		})
	}
}

// A podman that does not answer is waited for once, not for each of its user's containers: others wait for their turn.
func TestReconcileSilentPodman(t *testing.T) {
	var asked atomic.Int32
	endpoint := servePodman(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/info") {
			_, _ = io.WriteString(w, `{"version": {"APIVersion": "5.4.2"}}`)
			return
		}
		asked.Add(1)
		<-r.Context().Done()
	})
	node := testNode(t, config.Plugin{
		Sockets:       []config.Socket{{Name: "silent", SocketPath: endpoint.Path()}},
		ClientTimeout: time.Second,
		GC:            config.GC{Dangling: config.Dangling{Enabled: true}},
	})
	node.self = rootless.User{Name: "agent", UID: 65000} // who stages nothing
	for _, container := range []string{"a", "b", "c"} {
		must.NoError(t, node.intents.put(intent{Container: container, HostUID: endpoint.User().UID, Socket: "silent"}))
	}
	driver, err := New(t.Context(), hclog.NewNullLogger(), "1")
	must.NoError(t, err)
	must.False(t, driver.reconcile(t.Context(), node, true))
	must.Eq(t, 1, asked.Load())
	for _, container := range []string{"a", "b", "c"} {
		must.True(t, driver.claims.try(container))
	}
}
