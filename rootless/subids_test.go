package rootless

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

func hostFiles(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for path, text := range files {
		root["etc/"+path] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

func TestFindSubordinateIDs(t *testing.T) {
	u := User{Name: "team-a", UID: 2001, Home: "/no/such/home"}
	const enough = "team-a:100000:65536\n"
	for _, test := range []struct {
		name, subuid, subgid, nsswitch string
		want                           string // in the error's text; empty: none
	}{
		{name: "by name", subuid: enough, subgid: enough},
		{name: "by UID", subuid: "2001:100000:65536", subgid: "root:1:2\n2001:100000:65536 # text"},
		{name: "in two ranges", subuid: "team-a:100000:65535\nteam-a:300000:1", subgid: enough},
		{name: "beside others", subuid: enough + "team-b:165536:65536\nteam-c:99999:1", subgid: enough},
		{name: "others' clash", subuid: enough + "team-b:165536:65536\nteam-c:165536:65536", subgid: enough},
		{name: "none", want: "/etc/subuid"},
		{name: "no subgid", subuid: enough, want: "as root, run: usermod --add-subgids 165536-231071 team-a"},
		{name: "too few", subuid: "team-a:100000:1000", subgid: enough, want: "has 1000 subordinate IDs in /etc/subuid"},
		{name: "another's", subuid: "team-ab:100000:65536\n20010:1:65536", subgid: enough, want: "usermod --add-subuids"},
		{name: "malformed", subuid: "team-a:x:65536\nteam-a:1:-1\nteam-a:100000", subgid: enough, want: "has 0 subordinate IDs"},
		{name: "comment", subuid: "#" + enough, subgid: enough, want: "has 0 subordinate IDs"},
		{name: "overlap", subuid: enough + "team-b:165535:65536\n", subgid: enough,
			want: "range 100000-165535 of host user team-a in /etc/subuid overlaps 165535-231070 of team-b"},
		{name: "inside another's", subuid: enough, subgid: enough + "3000:1:1000000\n", want: "in /etc/subgid overlaps 1-1000000 of 3000"},
		{name: "accounts", subuid: "team-a:1000:65536", subgid: enough, want: "holds ID 3000 of team-b in /etc/passwd"},
		{name: "groups", subuid: enough, subgid: "team-a:1:65536", want: "holds ID 27 of sudo in /etc/group"},
		{name: "too high", subuid: "team-a:4294900000:67296", subgid: enough, want: "beyond the highest ID"},
		{name: "from a directory service", nsswitch: "passwd: files\nsubid: sss\n"},
		{name: "from files by name", nsswitch: "subid:   files # text\n", want: "has 0 subordinate IDs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := u.findSubordinateIDs(hostFiles(map[string]string{
				"subuid": test.subuid, "subgid": test.subgid, "nsswitch.conf": test.nsswitch,
				"passwd": "root:x:0:0::/root:/bin/sh\nteam-b:x:3000:3000::/home/team-b:/bin/sh\n",
				"group":  "root:x:0:\nsudo:x:27:team-a,team-b\n",
			})).Err()
			if test.want == "" {
				must.NoError(t, err)
				return
			}
			must.ErrorContains(t, err, test.want)
			must.ErrorContains(t, err, "team-a")
		})
	}
	must.ErrorContains(t, u.findSubordinateIDs(fstest.MapFS{}).Err(), "has 0 subordinate IDs")
	must.Eq(t, finding.Skipped, User{Name: "root"}.FindSubordinateIDs().Status)
	must.NoError(t, User{Name: "root"}.CheckSubordinateIDs())
}

func TestSubordinateIDsRemedy(t *testing.T) {
	clear(promised.to)
	fresh := someone(t)
	for _, test := range []struct {
		name, subuid, subgid, defs string
		commands                   []string
		safe                       bool
	}{
		{name: "first", safe: true, commands: []string{"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "}},
		{name: "next", safe: true, subuid: "x:100000:65536\n", subgid: "y:231072:65536\n",
			commands: []string{"usermod --add-subuids 165536-231071 --add-subgids 165536-231071 "}},
		{name: "one more", safe: true, subuid: fresh.Name + ":100000:1000\n", subgid: fresh.Name + ":100000:65536\n",
			commands: []string{"usermod --add-subuids 165536-231071 "}},
		{name: "by login.defs", safe: true, defs: "SUB_UID_MIN 524288\nSUB_UID_COUNT 131072\n",
			commands: []string{"usermod --add-subuids 524288-655359 --add-subgids 524288-655359 "}},
		{name: "full", defs: "SUB_GID_MAX 165534\n"},
		{name: "overlap", subuid: fresh.Name + ":100000:65536\nx:100000:65536\n", subgid: fresh.Name + ":100000:65536\n", commands: []string{
			"systemctl stop user@",
			"usermod --del-subuids 100000-165535 --add-subuids 165536-231071 ",
			"systemctl start user@",
		}},
		{name: "overlap beside enough", subuid: fresh.Name + ":300000:65536\n" + fresh.Name + ":100000:1000\nx:100000:65536\n", subgid: fresh.Name + ":100000:65536\n", commands: []string{
			"systemctl stop user@",
			"usermod --del-subuids 100000-100999 " + fresh.Name,
			"systemctl start user@",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			remedy := fresh.findSubordinateIDs(hostFiles(map[string]string{"subuid": test.subuid, "subgid": test.subgid, "login.defs": test.defs})).Remedy
			must.Eq(t, test.safe, remedy.Safe)
			must.Len(t, len(test.commands), remedy.Commands)
			for i, want := range test.commands {
				must.StrHasPrefix(t, want, remedy.Commands[i])
			}
			if test.commands == nil {
				must.StrContains(t, remedy.Advice, "none is free up to 165534")
			}
		})
	}
	must.NoError(t, os.MkdirAll(fresh.Home+"/.local/share/containers", 0o755))
	remedy := fresh.findSubordinateIDs(fstest.MapFS{}).Remedy
	must.False(t, remedy.Safe)
	must.StrHasPrefix(t, "usermod ", remedy.Commands[0])
	must.StrHasSuffix(t, " podman system migrate", remedy.Commands[1])
}

// Whoever follows the remedies of two users at once has not given them the same IDs.
func TestSubordinateIDsOfTwoUsers(t *testing.T) {
	clear(promised.to)
	a, b := User{Name: "team-a", UID: 2001}, User{Name: "team-b", UID: 2002}
	of := func(u User) string { return u.findSubordinateIDs(fstest.MapFS{}).Remedy.Commands[0] }
	must.StrContains(t, of(a), "--add-subuids 100000-165535")
	must.StrContains(t, of(b), "--add-subuids 165536-231071")
	must.StrContains(t, of(a), "--add-subuids 100000-165535")
	must.StrContains(t, of(b), "--add-subuids 165536-231071")
}
