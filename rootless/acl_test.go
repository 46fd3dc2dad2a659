package rootless

import (
	"testing"
	"testing/fstest"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

func TestFindGroup(t *testing.T) {
	const (
		accounts = "root:x:0:0::/root:/bin/sh\nteam-a:x:2001:2002::/home/team-a:/bin/sh\n"
		groups   = "root:x:0:\nusers:x:2002:\n"
	)
	for _, test := range []struct {
		name, passwd, group, nsswitch, file string
		want                                string // in what was seen, when that fails
	}{
		{name: "the user's own"},
		{name: "the user and root are members", group: "users:x:2002:team-a,root\n"},
		{name: "another account of the user's", passwd: "alias:x:2001:2002::/:/bin/sh\n", group: "users:x:2002:alias\n"},
		{name: "others in other groups", passwd: "bob:x:3000:20020::/:/bin/sh\n", group: "bob:x:20020:bob\n"},
		{name: "another's primary group", passwd: "bob:x:3000:2002::/:/bin/sh\n", want: "user bob has group users (GID 2002), the primary group of host user team-a, too"},
		{name: "another's, oddly written", passwd: "bob:x:3000:02002\n", want: "user bob has group users"},
		{name: "another member", group: "staff:x:2002:team-a,bob,root\n", want: "user bob has group staff (GID 2002)"},
		{name: "a member without an account", group: "users:x:2002:gone\n", want: "user gone has"},
		{name: "nothing but files", nsswitch: "passwd: files # sss\ngroup:files\nhosts: dns\n"},
		{name: "systemd's own accounts", nsswitch: "passwd: files systemd\ngroup: files [SUCCESS=merge] systemd\n", file: "run/systemd/userdb/io.systemd.DynamicUser"},
		{name: "a directory service", nsswitch: "passwd: files [!NOTFOUND=return SUCCESS=continue] sss\n",
			want: "whether others have group 2002, the primary group of host user team-a, cannot be told: /etc/nsswitch.conf has passwd of sss, too"},
		{name: "groups of a directory service", nsswitch: "passwd: files\ngroup: files ldap\n", want: "has group of ldap, too"},
		{name: "memberships of a directory service", nsswitch: "initgroups: winbind\n", want: "has initgroups of winbind, too"},
		{name: "systemd-homed", file: "run/systemd/userdb/io.systemd.Home", want: "/run/systemd/userdb/io.systemd.Home has accounts, too"},
		{name: "a record of systemd's", file: "etc/userdb/bob:users.membership", want: "/etc/userdb/bob:users.membership has accounts, too"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := hostFiles(map[string]string{"passwd": accounts + test.passwd, "group": groups + test.group, "nsswitch.conf": test.nsswitch})
			if test.file != "" {
				root[test.file] = &fstest.MapFile{}
			}
			f := teamA.findGroup(root, "/run")
			if test.want == "" {
				must.Eq(t, finding.OK, f.Status, must.Sprint(f.Seen))
				return
			}
			must.Eq(t, finding.Fail, f.Status)
			must.StrContains(t, f.Seen, "/run is on a file system without POSIX access control lists, and ")
			must.StrContains(t, f.Seen, test.want)
			must.ErrorContains(t, f.Err(), "CONFIG_TMPFS_POSIX_ACL")
		})
	}
}

// What cannot be read may name others.
func TestFindGroupWithoutFiles(t *testing.T) {
	for _, missing := range []string{"passwd", "group"} {
		root := hostFiles(map[string]string{"passwd": passwd, "group": "users:x:2002:\n"})
		delete(root, "etc/"+missing)
		must.ErrorContains(t, teamA.findGroup(root, "/run").Err(), "etc/"+missing)
	}
}
