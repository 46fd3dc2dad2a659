package rootless

import (
	"io/fs"
	"os"
	"path/filepath"
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

var teamA = User{Name: "team-a", UID: 2001, GID: 2002, Home: "/no/such/home"}

const (
	enough = "team-a:100000:65536\n"
	passwd = "root:x:0:0::/root:/bin/sh\nteam-b:x:3000:3000::/home/team-b:/bin/sh\n"
)

// The driver only wants enough of them.
func TestCheckSubordinateIDs(t *testing.T) {
	for _, test := range []struct {
		name, subuid, subgid, nsswitch string
		want                           string // in the error's text; empty: none
	}{
		{name: "by name", subuid: enough, subgid: enough},
		{name: "by UID", subuid: "2001:100000:65536", subgid: "root:1:2\n2001:100000:65536 # text"},
		{name: "in two ranges", subuid: "team-a:100000:65535\nteam-a:300000:1", subgid: enough},
		{name: "another's, too", subuid: enough + "team-b:100000:65536\n", subgid: enough},
		{name: "a long line", subuid: strings.Repeat("x", 1<<17) + "\n" + enough, subgid: enough},
		{name: "none", want: "has 0 subordinate IDs in /etc/subuid"},
		{name: "no subgid", subuid: enough, want: "usermod --add-subgids FIRST-LAST team-a"},
		{name: "too few", subuid: "team-a:100000:1000", subgid: enough, want: "has 1000 subordinate IDs in /etc/subuid"},
		{name: "twice", subuid: "team-a:100000:40000\n2001:120000:40000\n", subgid: enough, want: "has 60000 subordinate IDs"},
		{name: "another's", subuid: "team-ab:100000:65536\n20010:1:65536", subgid: enough, want: "usermod --add-subuids"},
		{name: "malformed", subuid: "team-a:x:65536\nteam-a:1:-1\nteam-a:100000", subgid: enough, want: "has 0 subordinate IDs"},
		{name: "comment", subuid: "#" + enough, subgid: enough, want: "has 0 subordinate IDs"},
		{name: "from a directory service", nsswitch: "passwd: files\nsubid: sss\n"},
		{name: "from files by name", nsswitch: "subid:   files # text\n", want: "has 0 subordinate IDs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := hostFiles(map[string]string{"subuid": test.subuid, "subgid": test.subgid, "nsswitch.conf": test.nsswitch, "passwd": passwd})
			err := teamA.checkSubordinateIDs(root)
			f := new(SubordinateIDs).find(teamA, root)
			if test.want == "" {
				must.NoError(t, err)
				must.Eq(t, test.name == "another's, too", f.Status == finding.Fail)
				return
			}
			must.ErrorContains(t, err, test.want)
			must.ErrorContains(t, err, "team-a")
			must.StrNotContains(t, err.Error(), "team-b")
			must.Eq(t, finding.Fail, f.Status)
		})
	}
	must.ErrorContains(t, teamA.checkSubordinateIDs(fstest.MapFS{}), "has 0 subordinate IDs")
	must.NoError(t, User{Name: "root"}.CheckSubordinateIDs())
}

func TestFindSubordinateIDs(t *testing.T) {
	for _, test := range []struct {
		name, subuid, subgid string
		status               finding.Status
		seen                 string
	}{
		{"good", enough, enough, finding.OK, "65536 in /etc/subuid, 65536 in /etc/subgid"},
		{"beside others", enough + "team-b:165536:65536\nteam-c:99999:1", enough, finding.OK, ""},
		{"others' clash", enough + "team-b:165536:65536\nteam-c:165536:65536", enough, finding.OK, ""},
		{"another's", enough + "team-b:165535:65536\n", enough, finding.Fail,
			"range 100000-165535 of host user team-a in /etc/subuid overlaps 165535-231070 of team-b"},
		{"inside another's, by UID", enough, enough + "3000:1:1000000\n", finding.Fail, "in /etc/subgid overlaps 1-1000000 of 3000"},
		{"nobody's", enough + "gone:165535:65536\n", enough, finding.Warn, "overlaps 165535-231070 of gone"},
		{"root's", enough + "root:100000:65536\n", enough, finding.Warn, "overlaps 100000-165535 of root"},
		{"root's, by UID", enough + "0:100000:65536\n", enough, finding.Warn, "of 0"},
		{"an account's", "team-a:2500:65536", enough, finding.Warn, "holds ID 3000 of team-b in /etc/passwd"},
		{"a group's", enough, "team-a:20:1000\n" + "team-a:100000:65536\n", finding.Warn, "holds ID 27 of sudo in /etc/group"},
		{"own UID", "team-a:2001:65536", enough, finding.Fail, "holds the user's own ID 2001"},
		{"own GID", enough, "team-a:2002:65536", finding.Fail, "holds the user's own ID 2002"},
		{"too high", "team-a:4294900000:67296", enough, finding.Fail, "beyond the highest ID"},
		{"twice", enough + enough, enough, finding.Fail, "overlaps the user's own 100000-165535"},
		{"twice beside enough", enough, enough + "2001:100000:1\n", finding.Fail, "overlaps the user's own 100000-100000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := map[string]string{"subuid": test.subuid, "subgid": test.subgid, "passwd": passwd,
				"group": "root:x:0:\nsudo:x:27:" + strings.Repeat("team-a,", 20000) + "\n"}
			f := new(SubordinateIDs).find(teamA, hostFiles(files))
			must.Eq(t, test.status, f.Status, must.Sprint(f.Seen))
			must.StrContains(t, f.Seen, test.seen)
			must.Eq(t, test.status == finding.OK, f.Remedy.IsZero())
			must.Eq(t, test.status == finding.OK, f.Why == "")
			must.False(t, f.Remedy.Safe)
			// What usermod cannot take, and what need not go, is for the administrator to judge.
			if test.status == finding.Warn || strings.HasPrefix(test.name, "twice") {
				must.SliceEmpty(t, f.Remedy.Commands)
			}
		})
	}
	must.Eq(t, finding.Skipped, new(SubordinateIDs).Find(User{Name: "root"}).Status)
	byUID := new(SubordinateIDs).find(teamA, hostFiles(map[string]string{"subuid": "2001:100000:65536\nteam-b:100000:1\n", "subgid": enough, "passwd": passwd})).Remedy
	must.SliceEmpty(t, byUID.Commands)
	must.StrContains(t, byUID.Advice, "remove the line 2001:100000:65536 from /etc/subuid")

	// A directory cannot be read as a file.
	unreadable := hostFiles(map[string]string{"subuid": enough, "subgid": enough, "passwd/x": "", "group/x": ""})
	must.Eq(t, finding.OK, new(SubordinateIDs).find(teamA, unreadable).Status)
	unreadable["etc/subuid"] = &fstest.MapFile{Mode: fs.ModeDir}
	must.Eq(t, finding.Fail, new(SubordinateIDs).find(teamA, unreadable).Status)
	must.Error(t, teamA.checkSubordinateIDs(unreadable))
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
			remedy := new(SubordinateIDs).find(fresh, hostFiles(map[string]string{
				"subuid": test.subuid, "subgid": test.subgid, "login.defs": test.defs, "passwd": "x:x:1:1::/:\n"})).Remedy
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
	missing := new(SubordinateIDs).find(fresh, fstest.MapFS{}).Remedy
	must.True(t, missing.Safe)
	must.Eq(t, []string{"touch /etc/subuid /etc/subgid", "chmod 0644 /etc/subuid /etc/subgid", "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 " + fresh.Name}, missing.Commands)

	own := new(SubordinateIDs).find(fresh, hostFiles(map[string]string{"subuid": "", "subgid": "", "passwd": "x:x:120000:1::/:\n"})).Remedy
	must.StrContains(t, own.Commands[0], "--add-subuids 120001-185536")

	const elsewhere = "/srv/storage"
	must.NoError(t, os.MkdirAll(filepath.Dir(fresh.own("storage.conf")), 0o755))
	must.NoError(t, os.WriteFile(fresh.own("storage.conf"), []byte("[storage]\ngraphroot = \"$HOME"+elsewhere+"\"\n"), 0o644))
	must.False(t, fresh.inUse())
	must.NoError(t, os.MkdirAll(fresh.Home+elsewhere, 0o755))
	remedy := new(SubordinateIDs).find(fresh, hostFiles(map[string]string{"subuid": "", "subgid": ""})).Remedy
	must.False(t, remedy.Safe)
	must.StrHasPrefix(t, "usermod ", remedy.Commands[0])
	must.StrHasSuffix(t, " podman system migrate", remedy.Commands[1])
	must.NoError(t, os.RemoveAll(fresh.Home+elsewhere))
	must.NoError(t, os.WriteFile(fresh.own("storage.conf"), []byte("["), 0o644))
	must.True(t, fresh.inUse())
}

// Whoever follows the remedies of two users at once has not given them the same IDs.
func TestSubordinateIDsOfTwoUsers(t *testing.T) {
	var ids SubordinateIDs
	other := User{Name: "team-b", UID: 2003}
	of := func(u User) string {
		return ids.find(u, hostFiles(map[string]string{"subuid": "", "subgid": ""})).Remedy.Commands[0]
	}
	for range 2 {
		must.StrContains(t, of(teamA), "--add-subuids 100000-165535")
		must.StrContains(t, of(other), "--add-subuids 165536-231071")
	}
}
