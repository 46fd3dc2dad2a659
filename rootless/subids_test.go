package rootless

import (
	"testing"
	"testing/fstest"

	"github.com/shoenig/test/must"
)

func TestCheckSubordinateIDs(t *testing.T) {
	u := User{Name: "team-a", UID: 2001}
	const enough = "team-a:100000:65536\n"
	for _, test := range []struct {
		name, subuid, subgid, nsswitch, want string
	}{
		{name: "by name", subuid: enough, subgid: enough},
		{name: "by UID", subuid: "2001:100000:65536", subgid: "root:1:2\n2001:100000:65536 # text"},
		{name: "in two ranges", subuid: "team-a:100000:65535\nteam-a:300000:1", subgid: enough},
		{name: "none", want: "/etc/subuid"},
		{name: "no subgid", subuid: enough, want: "--add-subgids"},
		{name: "too few", subuid: "team-a:100000:65535", subgid: enough, want: "has 65535 subordinate IDs in /etc/subuid"},
		{name: "another's", subuid: "team-ab:100000:65536\n20010:1:65536", subgid: enough, want: "usermod --add-subuids"},
		{name: "malformed", subuid: "team-a:x:65536\nteam-a:1:-1\nteam-a:100000", subgid: enough, want: "has 0 subordinate IDs"},
		{name: "comment", subuid: "#" + enough, subgid: enough, want: "has 0 subordinate IDs"},
		{name: "from a directory service", nsswitch: "passwd: files\nsubid: sss\n"},
		{name: "from files by name", nsswitch: "subid:   files # text\n", want: "has 0 subordinate IDs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := fstest.MapFS{
				"etc/subuid":        {Data: []byte(test.subuid)},
				"etc/subgid":        {Data: []byte(test.subgid)},
				"etc/nsswitch.conf": {Data: []byte(test.nsswitch)},
			}
			err := u.checkSubordinateIDs(root)
			if test.want == "" {
				must.NoError(t, err)
				return
			}
			must.ErrorContains(t, err, test.want)
			must.ErrorContains(t, err, "team-a")
		})
	}
	must.ErrorContains(t, u.checkSubordinateIDs(fstest.MapFS{}), "has 0 subordinate IDs")
}
