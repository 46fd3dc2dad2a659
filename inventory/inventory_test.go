package inventory

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// Both forms of the list are what others read: run this test with -update after a change that is meant.
func TestPrint(t *testing.T) {
	uid := func(uid uint32) *uint32 { return &uid }
	tasks := 3
	records := []*Record{
		{
			Name: "default", State: Active, HostUser: "team-a", UID: uid(2001), Path: "/run/user/2001/podman/podman.sock",
			Manager: &Manager{"user@2001.service", "active", true}, SocketUnit: &SocketUnit{"active", false},
			Controllers: []string{"cpu", "memory", "pids"}, Podman: &Podman{"5.4.2", "5.4.2"}, Tasks: &tasks,
			Namespaces: []string{"*"}, DefaultFor: []string{"a-*"}, Default: true, HostUserNamespaces: []string{"team-a", "ops"},
		},
		{
			Name: "rootful", State: Inactive, HostUser: "root", UID: uid(0), Path: "/run/podman/podman.sock",
			SocketUnit: &SocketUnit{"inactive", false}, Controllers: []string{"cpu", "memory", "pids"},
			Namespaces: []string{"ops"}, DefaultFor: []string{}, HostUserNamespaces: []string{},
		},
		{
			Name: "lost", State: Unusable, Reason: `socket "lost": no such host user`, HostUser: "gone", Controllers: []string{},
			Namespaces: []string{"*"}, DefaultFor: []string{}, HostUserNamespaces: []string{},
		},
		{
			Name: "team-b", State: Unusable, Reason: "podman.socket of host user team-b: unit is masked", HostUser: "team-b", UID: uid(2002),
			Path: "/run/user/2002/podman/podman.sock", Manager: &Manager{"user@2002.service", "active", false},
			SocketUnit: &SocketUnit{"inactive", true}, Controllers: []string{"pids"},
			Namespaces: []string{}, DefaultFor: []string{}, HostUserNamespaces: []string{"*"},
		},
	}
	for file, form := range map[string]func(io.Writer, []*Record) error{"sockets.txt": PrintTable, "sockets.json": PrintJSON} {
		t.Run(file, func(t *testing.T) {
			var out bytes.Buffer
			must.NoError(t, form(&out, records))
			golden := filepath.Join("testdata", file)
			if *update {
				must.NoError(t, os.WriteFile(golden, out.Bytes(), 0o600))
			}
			want, err := os.ReadFile(golden)
			must.NoError(t, err)
			must.Eq(t, string(want), out.String(), must.Sprint("run: go test ./inventory -update"))
		})
	}
	var out bytes.Buffer
	must.NoError(t, PrintJSON(&out, nil))
	must.Eq(t, "[]\n", out.String())
}

// podman serves answers by the end of the request's path.
func podman(t *testing.T, dir, name string, answers map[string]string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	listener, err := net.Listen("unix", path)
	must.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, found := answers[filepath.Base(r.URL.Path)]
		if !found {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = fmt.Fprint(w, answer)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { must.NoError(t, server.Close()) })
	return path
}

// One endpoint's trouble is its own.
func TestCollect(t *testing.T) {
	dir, err := os.MkdirTemp("", "inventory")
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, os.RemoveAll(dir)) })
	info := `{"version":{"APIVersion":"5.4.2","Version":"5.4.2-dev"}}`
	mute, err := net.Listen("unix", filepath.Join(dir, "mute"))
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, mute.Close()) })
	plugin := &config.Plugin{
		ClientTimeout: 500 * time.Millisecond,
		Rootless:      config.Rootless{MinUID: 1000},
		Sockets: []config.Socket{
			{Name: "good", SocketPath: podman(t, dir, "good", map[string]string{"info": info, "json": `[
				{"Id":"1","State":"running","Labels":{"com.hashicorp.nomad.alloc_id":"a"}},
				{"Id":"2","State":"exited","Labels":{"com.hashicorp.nomad.alloc_id":"b"}},
				{"Id":"3","State":"running","Labels":{}},
				{"Id":"4","State":"running"}]`})},
			{Name: "mute", SocketPath: filepath.Join(dir, "mute"), Namespaces: []string{"x"}, DefaultFor: []string{"x"}},
			{Name: "failing", SocketPath: podman(t, dir, "failing", map[string]string{"info": info})},
			{Name: "old", SocketPath: podman(t, dir, "old", map[string]string{"info": `{"version":{"APIVersion":"3.4.4"}}`})},
		},
	}
	if err := cgroupv2.CheckRootless(); err != nil && os.Geteuid() != 0 {
		t.Skip("this user's endpoints are all refused: ", err)
	}
	records, err := Collect(t.Context(), plugin)
	must.NoError(t, err)
	must.Len(t, 4, records)
	byName := map[string]*Record{}
	for _, record := range records {
		byName[record.Name] = record
		must.Nil(t, record.SocketUnit)
		must.Eq(t, uint32(os.Geteuid()), *record.UID)
	}

	good := byName["good"]
	must.Eq(t, Active, good.State)
	must.Eq(t, &Podman{Version: "5.4.2-dev", APIVersion: "5.4.2"}, good.Podman)
	must.Eq(t, 1, *good.Tasks)
	must.Eq(t, []string{"*"}, good.Namespaces)
	must.True(t, good.Default)
	for name, says := range map[string]string{
		"mute":    "no answer within 500ms",
		"failing": "listing containers",
		"old":     "podman 4.3 or newer is needed",
	} {
		must.Eq(t, Unusable, byName[name].State)
		must.StrContains(t, byName[name].Reason, says)
		must.Nil(t, byName[name].Tasks)
	}
	must.Eq(t, []string{"x"}, byName["mute"].Namespaces)
	must.Eq(t, []string{"x"}, byName["mute"].DefaultFor)
	must.False(t, byName["mute"].Default)
}

// Root sees what is broken, too, and the host users that tasks may name; others see what is theirs.
func TestCollectOfWhom(t *testing.T) {
	plugin := &config.Plugin{
		Sockets: []config.Socket{
			{Name: "lost", HostUser: "no-such-user"},
			{Name: "nothing", SocketPath: "/no/such/podman.sock"},
		},
		Rootless: config.Rootless{AllowUsers: []string{"nobody"}, Namespaces: []string{"x"}, MinUID: 1000},
	}
	records, err := Collect(t.Context(), plugin)
	must.NoError(t, err)
	if os.Geteuid() != 0 {
		must.SliceEmpty(t, records)
		return
	}
	must.Len(t, 3, records)
	must.Eq(t, "no-such-user", records[0].HostUser)
	must.StrContains(t, records[0].Reason, "create the account")
	must.Eq(t, Unusable, records[1].State)
	must.StrContains(t, records[1].Reason, "/no/such/podman.sock")
	must.Nil(t, records[1].UID)
	must.Eq(t, "nobody", records[2].Name)
	must.Eq(t, Unusable, records[2].State)
	if cgroupv2.CheckRootless() != nil {
		must.StrContains(t, records[2].Reason, "cgroup v1")
	} else {
		must.StrContains(t, records[2].Reason, "subordinate IDs")
	}
	must.SliceEmpty(t, records[2].Namespaces)
	must.Eq(t, []string{"x"}, records[2].HostUserNamespaces)
}
