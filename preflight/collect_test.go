package preflight

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

func good(id, subject string) look {
	return one(id, subject, func() finding.Finding { return finding.Good(id, subject, "fine") })
}

func ids(findings []finding.Finding) []string {
	var ids []string
	for _, f := range findings {
		ids = append(ids, f.Subject+" "+f.ID)
	}
	return ids
}

// Users are looked at together, and stand in the order in which they were given.
func TestCollectInOrder(t *testing.T) {
	second := make(chan struct{})
	groups := []group{
		{looks: []look{good("kernel", "host"), {"podman", "host", func(context.Context) []finding.Finding {
			<-second
			return []finding.Finding{finding.Good("podman", "host", "a"), finding.Good("conmon", "host", "b")}
		}}}},
		{looks: []look{one("home", "a", func() finding.Finding { close(second); return finding.Good("home", "a", "c") })}},
	}
	found := collect(t.Context(), groups)
	must.Eq(t, []string{"host kernel", "host podman", "host conmon"}, ids(found[0]))
	must.Eq(t, []string{"a home"}, ids(found[1]))
}

// A look that never ends is left behind, and says so under its own name.
func TestLookHangs(t *testing.T) {
	hangs := look{"home", "team-a", func(context.Context) []finding.Finding { select {} }}
	findings := hangs.make(t.Context(), time.Millisecond, 0)
	must.Len(t, 1, findings)
	must.Eq(t, "home", findings[0].ID)
	must.Eq(t, finding.Warn, findings[0].Status)
	must.StrContains(t, findings[0].Seen, "took longer than 1ms")

	// One that minds the deadline may have more to say.
	minds := look{"api", "team-a", func(ctx context.Context) []finding.Finding {
		<-ctx.Done()
		return []finding.Finding{finding.Skip("api", "team-a", "podman is mute")}
	}}
	must.Eq(t, "podman is mute", minds.make(t.Context(), time.Millisecond, time.Minute)[0].Seen)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must.Eq(t, finding.Warn, good("kernel", "host").make(ctx, time.Minute, 0)[0].Status)
}

func TestRunTest(t *testing.T) {
	broken := errors.New("no\nrunc")
	for name, test := range map[string]struct {
		others finding.Status
		err    error
		want   finding.Status
		seen   string
	}{
		"runs":         {finding.Warn, nil, finding.OK, "a container ran"},
		"fails":        {finding.OK, broken, finding.Fail, "no runc"},
		"not worth it": {finding.Fail, nil, finding.Skipped, "other findings fail"},
	} {
		t.Run(name, func(t *testing.T) {
			ran := false
			g := group{user: rootless.User{Name: "team-a"}, run: func(context.Context) error {
				ran = true
				return test.err
			}}
			f := runTest(t.Context(), g, []finding.Finding{{ID: "home", Status: test.others}})
			must.Eq(t, test.want, f.Status)
			must.Eq(t, "team-a", f.Subject)
			must.StrContains(t, f.Seen, test.seen)
			must.Eq(t, test.others != finding.Fail, ran)
		})
	}
}

func agentOf(t *testing.T, text string) *config.Agent {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.hcl")
	must.NoError(t, os.WriteFile(file, []byte("plugin \"nomad-driver-podman\" {\n config {\n"+text+"\n}\n}\n"), 0o600))
	agent, err := config.FromAgent(file)
	must.NoError(t, err)
	return agent
}

// of are the findings with an ID.
func of(findings []finding.Finding, id string) []finding.Finding {
	var those []finding.Finding
	for _, f := range findings {
		if f.ID == id {
			those = append(those, f)
		}
	}
	return those
}

// Whom the configuration names is looked at, in its order, then who was named besides. One's trouble is one's own.
func TestCollectOfWhom(t *testing.T) {
	agent := agentOf(t, `
socket {
  name      = "lost"
  host_user = "no-such-user"
}
socket {
  name        = "rootful"
  socket_path = "/no/such/podman.sock"
}
rootless {
  allow_users = ["team-*", "no-such-other"]
}`)
	findings := Collect(t.Context(), Options{Agent: agent, Users: []string{"no-such-third"}})
	must.Eq(t, "configuration", findings[0].ID)
	must.Eq(t, finding.OK, findings[0].Status)
	lost := of(findings, "socket")
	must.Eq(t, "lost", lost[0].Subject)
	must.Eq(t, finding.Fail, lost[0].Status)
	must.StrContains(t, lost[0].Seen, "no-such-user")
	var accounts []string
	for _, f := range of(findings, "account") {
		accounts = append(accounts, f.Subject)
		if os.Geteuid() != 0 {
			must.Eq(t, needsRoot, f.Seen)
		}
	}
	must.Eq(t, []string{"no-such-other", "no-such-third"}, accounts)
}

// A host with nothing but root's podman is not asked for what only host users need.
func TestCollectRootful(t *testing.T) {
	agent := agentOf(t, `
socket {
  name        = "default"
  socket_path = "/run/podman/podman.sock"
}`)
	groups, done := groupsOf(Options{Agent: agent})
	defer done()
	for _, id := range []string{"user-namespaces", "id-helpers", "idmapped-mounts"} {
		for _, look := range groups[0].looks {
			if look.id == id {
				f := look.find(t.Context())[0]
				must.Eq(t, finding.Skipped, f.Status)
				must.StrContains(t, f.Seen, "no host user")
			}
		}
	}
	if os.Geteuid() == 0 {
		must.Len(t, 2, groups)
		must.True(t, groups[1].user.IsRoot())
	}
}

// What of the configuration cannot be used is told, and the rest is looked at all the same.
func TestCollectWithWrongConfiguration(t *testing.T) {
	agent, err := config.FromAgent(filepath.Join(t.TempDir(), "no-such.hcl"))
	must.Error(t, err)
	findings := Collect(t.Context(), Options{Agent: agent, AgentErr: err})
	must.Eq(t, finding.Fail, findings[0].Status)
	must.StrContains(t, findings[0].Seen, "no-such.hcl")
	must.NotNil(t, of(findings, "kernel"))
}
