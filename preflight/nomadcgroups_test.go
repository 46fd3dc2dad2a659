package preflight

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/finding"
	"nomad-driver-podman/rootless"
)

func TestNomadCgroups(t *testing.T) {
	const all = "cpuset cpu io memory pids\n"
	user, root := rootless.User{Name: "team-a", UID: 2001}, rootless.User{Name: "root"}
	for name, test := range map[string]struct {
		self            rootless.User
		config          string // whose file that is
		parent          string // cgroup_parent
		there, owned    bool   // the parent
		controllers     string
		want            finding.Status
		seen, why, more string
	}{
		"an agent of root's":           {self: root, config: "own", there: true, controllers: all, want: finding.Skipped, seen: "as root"},
		"a user, and root's agent":     {self: user, config: "other", there: true, controllers: all, want: finding.Skipped, seen: "no agent of this user's"},
		"nobody has made the parent":   {self: user, config: "own", controllers: all, want: finding.OK},
		"root's agent has made it":     {self: user, config: "own", there: true, controllers: all, want: finding.Fail, seen: "nomad.slice", why: "no task ever starts", more: "cgroup_parent"},
		"it has, and controllers lack": {self: user, config: "own", there: true, controllers: "cpu memory pids\n", want: finding.Warn, why: "once systemd", more: "cgroup_parent"},
		"the user's own":               {self: user, config: "own", parent: "user.slice/own", there: true, owned: true, controllers: all, want: finding.OK},
		"no cgroup v2":                 {self: user, config: "own", want: finding.Skipped, seen: "not cgroup v2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if test.controllers != "" {
				must.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(test.controllers), 0o600))
			}
			agent := &config.Agent{Files: []string{test.config}, CgroupParent: test.parent}
			parent := filepath.Join(dir, cmp.Or(test.parent, "nomad.slice"))
			if test.there {
				must.NoError(t, os.MkdirAll(parent, 0o700))
			}
			f := findNomadCgroups(dir, agent, test.self, func(path string) bool { return path == "own" || test.owned && path == parent })
			must.Eq(t, test.want, f.Status, must.Sprint(f))
			must.StrContains(t, f.Seen, test.seen)
			must.StrContains(t, f.Why, test.why)
			must.StrContains(t, f.Remedy.Advice, test.more)
		})
	}
}
