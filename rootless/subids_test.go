package rootless

import (
	"cmp"
	"os"
	"strings"
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

func TestSubordinateIDs(t *testing.T) {
	u := User{Name: "team-a", UID: 2001, Home: "/no/such/home"}
	const enough = "team-a:100000:65536\n"
	for _, test := range []struct {
		name, subuid, subgid, nsswitch string
		want                           finding.Status // empty: OK
		says                           string
		refused                        bool // by the driver, too
	}{
		{name: "by name", subuid: enough, subgid: enough},
		{name: "by UID", subuid: "2001:100000:65536", subgid: "root:1:2\n2001:100000:65536 # text"},
		{name: "in two ranges", subuid: "team-a:100000:65535\nteam-a:300000:1", subgid: enough},
		{name: "beside others", subuid: enough + "team-b:165536:65536\nteam-c:99999:1", subgid: enough},
		{name: "others' clash", subuid: enough + "team-b:165536:65536\nteam-c:165536:65536", subgid: enough},
		{name: "none", want: finding.Fail, says: "/etc/subuid", refused: true},
		{name: "no subgid", subuid: enough, want: finding.Fail, says: "usermod --add-subgids 165536-231071 team-a", refused: true},
		{name: "too few", subuid: "team-a:100000:1000", subgid: enough, want: finding.Fail, says: "has 1000 subordinate IDs in /etc/subuid", refused: true},
		{name: "another's", subuid: "team-ab:100000:65536\n20010:1:65536", subgid: enough, want: finding.Fail, says: "usermod --add-subuids", refused: true},
		{name: "malformed", subuid: "team-a:x:65536\nteam-a:1:-1\nteam-a:100000", subgid: enough, want: finding.Fail, says: "has 0 subordinate IDs", refused: true},
		{name: "comment", subuid: "#" + enough, subgid: enough, want: finding.Fail, says: "has 0 subordinate IDs", refused: true},
		{name: "overlap", subuid: enough + "team-b:165535:65536\n", subgid: enough, want: finding.Fail,
			says: "range 100000-165535 of host user team-a in /etc/subuid overlaps 165535-231070 of team-b"},
		{name: "inside another's", subuid: enough, subgid: enough + "3000:1:1000000\n", want: finding.Fail, says: "in /etc/subgid overlaps 1-1000000 of 3000"},
		{name: "inside root's", subuid: enough + "root:1:1000000\n", subgid: enough, want: finding.Warn, says: "overlaps 1-1000000 of root"},
		{name: "overlap with nobody's", subuid: enough + "gone:100000:65536\n", subgid: enough, want: finding.Warn, says: "of gone, who is no user of this host"},
		{name: "accounts", subuid: "team-a:1000:65536", subgid: enough, want: finding.Warn, says: "holds ID 3000 of team-b in /etc/passwd"},
		{name: "groups", subuid: enough, subgid: "team-a:1:65536", want: finding.Warn, says: "holds ID 27 of sudo in /etc/group"},
		{name: "too high", subuid: "team-a:4294900000:67296", subgid: enough, want: finding.Fail, says: "beyond the highest ID"},
		{name: "twice", subuid: enough + "2001:100000:65536", subgid: enough, want: finding.Fail, says: "ranges 100000-165535 and 100000-165535 of host user team-a in /etc/subuid overlap"},
		{name: "twice and too few", subuid: "team-a:100000:65535\n2001:100000:65535", subgid: enough, want: finding.Fail, says: "has 65535 subordinate IDs", refused: true},
		{name: "by the UID of the line", subuid: "2001:100000:65536\nteam-b:100000:65536", subgid: enough, want: finding.Fail, says: "remove the line of 2001"},
		{name: "from a directory service", nsswitch: "passwd: files\nsubid: sss\n", want: finding.Skipped},
		{name: "from files by name", nsswitch: "subid:   files # text\n", want: finding.Fail, says: "has 0 subordinate IDs", refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := hostFiles(map[string]string{
				"subuid": test.subuid, "subgid": test.subgid, "nsswitch.conf": test.nsswitch,
				"passwd": "root:x:0:0::/root:/bin/sh\nteam-b:x:3000:3000::/home/team-b:/bin/sh\n",
				"group":  "many:x:9:" + strings.Repeat("somebody,", 1<<14) + "\nroot:x:0:\nsudo:x:27:team-a,team-b\n",
			})
			f := (&SubordinateIDs{}).find(root, u)
			must.Eq(t, cmp.Or(test.want, finding.OK), f.Status, must.Sprint(f.Seen))
			must.StrContains(t, f.Seen+f.Remedy.String(), test.says)
			err := u.checkSubordinateIDs(root)
			if !test.refused {
				must.NoError(t, err)
				return
			}
			must.ErrorContains(t, err, "team-a")
			must.ErrorContains(t, err, "preflight -user team-a")
		})
	}
	must.ErrorContains(t, u.checkSubordinateIDs(fstest.MapFS{}), "has 0 subordinate IDs")
	must.Eq(t, finding.Skipped, (&SubordinateIDs{}).Find(User{Name: "root"}).Status)
	must.NoError(t, User{Name: "root"}.CheckSubordinateIDs())
}

func TestSubordinateIDsRemedy(t *testing.T) {
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
			remedy := (&SubordinateIDs{}).find(hostFiles(map[string]string{
				"subuid": test.subuid, "subgid": test.subgid, "login.defs": test.defs, "passwd": "x:x:3000:3000::/:/bin/sh\n",
			}), fresh).Remedy
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
	// usermod does not make the files.
	remedy := (&SubordinateIDs{}).find(fstest.MapFS{}, fresh).Remedy
	must.True(t, remedy.Safe)
	must.Eq(t, []string{"touch /etc/subuid", "touch /etc/subgid"}, remedy.Commands[:2])

	must.NoError(t, os.MkdirAll(fresh.Home+"/.local/share/containers/storage", 0o755))
	remedy = (&SubordinateIDs{}).find(hostFiles(map[string]string{"subuid": "", "subgid": ""}), fresh).Remedy
	must.False(t, remedy.Safe)
	must.StrHasPrefix(t, "usermod ", remedy.Commands[0])
	must.StrHasSuffix(t, " podman system migrate", remedy.Commands[1])
}

// Whoever follows the remedies of two users at once has not given them the same IDs.
func TestSubordinateIDsOfTwoUsers(t *testing.T) {
	a, b := User{Name: "team-a", UID: 2001}, User{Name: "team-b", UID: 2002}
	root := hostFiles(map[string]string{"subuid": "", "subgid": ""})
	var ids SubordinateIDs
	of := func(u User) string { return ids.find(root, u).Remedy.Commands[0] }
	must.StrContains(t, of(a), "--add-subuids 100000-165535")
	must.StrContains(t, of(b), "--add-subuids 165536-231071")
	must.StrContains(t, of(a), "--add-subuids 100000-165535")
	must.StrContains(t, of(b), "--add-subuids 165536-231071")
}
