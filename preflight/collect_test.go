package preflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
		{looks: []look{good("kernel", "host"), several("host", func(context.Context) []finding.Finding {
			<-second
			return []finding.Finding{finding.Good("podman", "host", "a"), finding.Good("conmon", "host", "b")}
		}, "podman", "conmon")}},
		{looks: []look{one("home", "a", func() finding.Finding { close(second); return finding.Good("home", "a", "c") })}},
	}
	found := collect(t.Context(), groups)
	must.Eq(t, []string{"host kernel", "host podman", "host conmon"}, ids(found[0]))
	must.Eq(t, []string{"a home"}, ids(found[1]))
}

// Looks in turn are made before others, one after the other, and stand where they were given.
func TestCollectInTurn(t *testing.T) {
	var made []string
	inTurn := func(subject string) look {
		l := one("subordinate-ids", subject, func() finding.Finding {
			made = append(made, subject) // not together with any other
			return finding.Good("subordinate-ids", subject, "some")
		})
		l.inTurn = true
		return l
	}
	groups := []group{{looks: []look{
		one("home", "first", func() finding.Finding {
			return finding.Good("home", "first", "after %d", len(made))
		}), inTurn("first"), good("space", "first"),
	}}}
	want := []string{"first"}
	for _, user := range []string{"b", "a", "c", "d"} {
		groups = append(groups, group{looks: []look{inTurn(user)}})
		want = append(want, user)
	}
	found := collect(t.Context(), groups)
	must.Eq(t, want, made)
	must.Eq(t, []string{"first home", "first subordinate-ids", "first space"}, ids(found[0]))
	must.Eq(t, "after 5", found[0][0].Seen)
}

// A look that never ends is left behind, and says so of all that it was to find.
func TestLookHangs(t *testing.T) {
	hangs := several("team-a", func(context.Context) []finding.Finding { select {} }, "podman", "conmon")
	hangs.patience = time.Millisecond
	findings := hangs.make(t.Context(), 0)
	must.Eq(t, []string{"team-a podman", "team-a conmon"}, ids(findings))
	for _, f := range findings {
		must.Eq(t, finding.Warn, f.Status)
		must.StrContains(t, f.Seen, "took longer than 1ms")
	}

	// One that minds the deadline may have more to say.
	minds := several("team-a", func(ctx context.Context) []finding.Finding {
		<-ctx.Done()
		return []finding.Finding{finding.Skip("api", "team-a", "podman is mute")}
	}, "api")
	minds.patience = 50 * time.Millisecond
	must.Eq(t, "podman is mute", minds.make(t.Context(), time.Minute)[0].Seen)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must.Eq(t, finding.Warn, good("kernel", "host").make(ctx, 0)[0].Status)
}

// A look of its own kind has patience of its own.
func TestLookPatience(t *testing.T) {
	left := func(patience time.Duration) time.Duration {
		var left time.Duration
		l := several("team-a", func(ctx context.Context) []finding.Finding {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return nil
		})
		l.patience = patience
		l.make(t.Context(), 0)
		return left
	}
	must.Between(t, lookPatience/2, left(0), lookPatience)
	must.Between(t, apiPatience/2, left(apiPatience), apiPatience)
}

// A host that cannot even be asked whose the sockets are is not ready.
func TestCollectHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	findings := Collect(ctx, Options{Agent: agentOf(t, "")})
	must.Eq(t, []string{"host configuration", "host configuration"}, ids(findings))
	must.Eq(t, finding.Fail, findings[1].Status)
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
	s := newSubjects(Options{Agent: agent})
	defer func() { must.NoError(t, s.registry.Close()) }()
	for _, id := range []string{"user-namespaces", "id-helpers", "idmapped-mounts"} {
		f := lookAt(t, s.groups[0], id).find(t.Context())[0]
		must.Eq(t, finding.Skipped, f.Status)
		must.StrContains(t, f.Seen, "no host user")
	}
	if os.Geteuid() == 0 {
		must.Len(t, 2, s.groups)
		must.True(t, s.groups[1].user.IsRoot())
		api := lookAt(t, s.groups[1], "api")
		must.Eq(t, []string{"podman-socket", "socket-access", "api", "storage", "database"}, api.ids)
		must.Eq(t, apiPatience, api.patience)
		must.True(t, lookAt(t, s.groups[1], "subordinate-ids").inTurn)
	}
}

// lookAt is the look of a group that finds an ID.
func lookAt(t *testing.T, g group, id string) look {
	t.Helper()
	i := slices.IndexFunc(g.looks, func(l look) bool { return slices.Contains(l.ids, id) })
	must.NotEq(t, -1, i, must.Sprint(id))
	return g.looks[i]
}

// Each ID that is found when all goes well is one that is told of when it does not.
func TestLooksNameWhatTheyFind(t *testing.T) {
	s := newSubjects(Options{Agent: agentOf(t, `
socket {
  name        = "configured"
  socket_path = "/no/such/podman.sock"
}`), Users: []string{self(t).Name}})
	defer func() { must.NoError(t, s.registry.Close()) }()
	for _, group := range s.groups {
		for _, look := range group.looks {
			for _, f := range look.make(t.Context(), grace) {
				must.SliceContains(t, look.ids, f.ID)
			}
		}
	}
}

// Whom tasks may not name is no host user of theirs, unless a socket block names them.
func TestAccountRefused(t *testing.T) {
	me := self(t)
	account := func(block string, users ...string) finding.Finding {
		s := newSubjects(Options{Agent: agentOf(t, block), Users: users})
		defer func() { must.NoError(t, s.registry.Close()) }()
		for _, group := range s.groups {
			for _, look := range group.looks {
				if slices.Contains(look.ids, "account") {
					return look.find(t.Context())[0]
				}
			}
		}
		return finding.Finding{}
	}
	socket := "socket {\n name = \"other\"\n host_user = \"no-such-user\"\n}\n" // no default one
	f := account(socket, me.Name)
	must.Eq(t, finding.Warn, f.Status)
	must.Eq(t, me.Name, f.Subject)
	must.StrContains(t, f.Why, "no task may name")
	must.StrContains(t, f.Seen, "UID")
	must.NotNil(t, f.Cause)

	own := fmt.Sprintf("socket {\n name = \"own\"\n host_user = %q\n}\n", me.Name)
	must.Eq(t, finding.OK, account(own, me.Name).Status)

	// Root is nobody's host user; others are where they are allowed.
	allowed := account(socket + fmt.Sprintf("rootless {\n min_uid = 1\n allow_users = [%q]\n}\n", me.Name))
	must.Eq(t, me.IsRoot(), allowed.Status == finding.Warn)
	must.Eq(t, finding.Fail, findAccount("no-such-user", errors.New("refused")).Status)
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
