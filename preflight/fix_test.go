package preflight

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

// host is a host that commands mend.
type host struct {
	t       *testing.T
	broken  []finding.Finding // those whose remedy's last command has not run
	ran     []string
	refuses string // a command that fails
	asked   []int
	answer  bool
	out     bytes.Buffer
}

func (h *host) fixer() *fixer {
	return &fixer{
		collect: func(context.Context) []finding.Finding { return slices.Clone(h.broken) },
		run: func(_ context.Context, command string, out io.Writer) error {
			must.StrContains(h.t, h.out.String(), command+"\n") // it was listed
			h.ran = append(h.ran, command)
			_, _ = io.WriteString(out, "said\nand did")
			if command == h.refuses {
				return errors.New("exit status 1")
			}
			h.broken = slices.DeleteFunc(h.broken, func(f finding.Finding) bool {
				return len(f.Remedy.Commands) > 0 && f.Remedy.Commands[len(f.Remedy.Commands)-1] == command
			})
			return nil
		},
		confirm: func(_ context.Context, commands int) bool {
			h.asked = append(h.asked, commands)
			return h.answer
		},
		out: &h.out,
	}
}

func broken(id, subject string, safe bool, commands ...string) finding.Finding {
	return finding.Finding{ID: id, Subject: subject, Status: finding.Fail, Seen: id + " is broken", Why: "tasks fail",
		Remedy: finding.Remedy{Commands: commands, Safe: safe}}
}

// What is safe is mended, in order, and nothing else is touched.
func TestFix(t *testing.T) {
	h := &host{t: t, answer: true, broken: []finding.Finding{
		broken("lingering", "team-a", true, "linger a"),
		broken("storage", "team-a", false, "lose images"),
		broken("subordinate-ids", "team-a", true, "subuids a", "subgids a"),
		{ID: "cni", Subject: finding.Host, Status: finding.Warn, Remedy: finding.Remedy{Advice: "do it", Safe: true}},
		{ID: "home", Subject: "team-a", Status: finding.OK, Remedy: finding.Remedy{Commands: []string{"never"}, Safe: true}},
	}}
	findings, err := h.fixer().fix(t.Context())
	must.NoError(t, err)
	must.Eq(t, []string{"linger a", "subuids a", "subgids a"}, h.ran)
	must.Eq(t, []int{3}, h.asked)
	must.Eq(t, []string{"team-a storage", "host cni", "team-a home"}, ids(findings))
	must.StrContains(t, h.out.String(), "subordinate-ids of team-a: subordinate-ids is broken\n    subuids a\n    subgids a\n")
	must.StrContains(t, h.out.String(), "# linger a\n    said\n    and did\n")
	must.StrNotContains(t, h.out.String(), "lose images")
}

func TestFixDeclined(t *testing.T) {
	h := &host{t: t, broken: []finding.Finding{broken("lingering", "team-a", true, "linger a")}}
	findings, err := h.fixer().fix(t.Context())
	must.NoError(t, err)
	must.SliceEmpty(t, h.ran)
	must.Eq(t, []int{1}, h.asked)
	must.Eq(t, []string{"team-a lingering"}, ids(findings))
}

// What was mended may show more; each is asked for. An account is made only for those who were named.
func TestFixRounds(t *testing.T) {
	h := &host{t: t, answer: true}
	h.broken = []finding.Finding{broken("account", "team-b", false, "useradd b"), broken("account", "team-a", false, "useradd a")}
	next := map[string]finding.Finding{
		"useradd a": broken("lingering", "team-a", true, "linger a"),
		"linger a":  broken("podman-socket", "team-a", true, "enable a"),
	}
	fixer := h.fixer()
	fixer.create = []string{"team-a"}
	run := fixer.run
	fixer.run = func(ctx context.Context, command string, out io.Writer) error {
		if more, is := next[command]; is {
			h.broken = append(h.broken, more)
		}
		return run(ctx, command, out)
	}
	findings, err := fixer.fix(t.Context())
	must.NoError(t, err)
	must.Eq(t, []string{"useradd a", "linger a", "enable a"}, h.ran)
	must.Eq(t, []int{1, 1, 1}, h.asked)
	must.Eq(t, []string{"team-b account"}, ids(findings))
}

// A remedy that does not help is not tried again, the rest of one that fails is left, and others are tried all the same.
func TestFixInVain(t *testing.T) {
	h := &host{t: t, answer: true, refuses: "subuids a", broken: []finding.Finding{
		broken("subordinate-ids", "team-a", true, "subuids a", "subgids a"),
		broken("delegation", "team-a", true, "reload"),
		broken("delegation", "team-b", true, "reload"),
	}}
	findings, err := h.fixer().fix(t.Context())
	must.NoError(t, err)
	must.Eq(t, []string{"subuids a", "reload"}, h.ran)
	must.Eq(t, []string{"team-a subordinate-ids"}, ids(findings))
	must.StrContains(t, h.out.String(), "failed: exit status 1")
}

// There is always an end, also where each remedy makes another one necessary.
func TestFixWithoutEnd(t *testing.T) {
	h := &host{t: t, answer: true, broken: []finding.Finding{broken("home", "a", true, "x")}}
	fixer := h.fixer()
	run := fixer.run
	fixer.run = func(ctx context.Context, command string, out io.Writer) error {
		h.broken = append(h.broken, broken("home", "a", true, command+"x"))
		return run(ctx, command, out)
	}
	findings, err := fixer.fix(t.Context())
	must.NoError(t, err)
	must.Eq(t, maxRounds, len(h.ran))
	must.Len(t, 1, findings)
}

// An interrupt lets a command end, and no other begin.
func TestFixInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := &host{t: t, answer: true, broken: []finding.Finding{broken("subordinate-ids", "a", true, "subuids", "subgids")}}
	fixer := h.fixer()
	run := fixer.run
	fixer.run = func(ctx context.Context, command string, out io.Writer) error {
		cancel()
		must.NoError(t, ctx.Err())
		return run(ctx, command, out)
	}
	_, err := fixer.fix(ctx)
	must.ErrorIs(t, err, errInterrupted)
	must.ErrorContains(t, err, "after 1 command")
	must.Eq(t, []string{"subuids"}, h.ran)
}

func TestFixNothing(t *testing.T) {
	h := &host{t: t}
	findings, err := h.fixer().fix(t.Context())
	must.NoError(t, err)
	must.SliceEmpty(t, findings)
	must.SliceEmpty(t, h.asked)
	must.Eq(t, 1, strings.Count(h.out.String(), "nothing"))
}
