package rootless

import (
	"testing"

	"github.com/shoenig/test/must"
)

func TestParseUsers(t *testing.T) {
	must.Eq(t, []User{
		{Name: "root", Home: "/root"},
		{Name: "team-a", UID: 2001, GID: 2002, Home: "/home/team-a"},
	}, parseUsers(`root:x:0:0:root:/root:/bin/bash
# team-z:x:2026:2026::/home/team-z:/bin/bash
team-a:x:2001:2002:Team #1,,,:/home/team-a:/bin/bash
short:x:1:1
nobody-at-all:x:4294967295:1::/:/bin/false
+::::::
`))
}

// Those who are listed are those who are found.
func TestUsers(t *testing.T) {
	users, err := Users()
	must.NoError(t, err)
	must.SliceNotEmpty(t, users)
	for _, u := range users {
		found, err := Lookup(u.Name)
		must.NoError(t, err)
		must.Eq(t, u, found)
	}
}
