package config

import (
	"fmt"
	"testing"

	"github.com/shoenig/test/must"
)

func TestCheckPrivileges(t *testing.T) {
	const (
		some = `allow_caps = ["NET_ADMIN", "cap_sys_time"]`
		none = `allow_caps = []`
		all  = `allow_caps = ["All"]`
		yes  = `allow_privileged = true`
		no   = `allow_privileged = false`
	)
	privileged := Asked{Privileged: true}
	add := func(caps ...string) Asked { return Asked{CapAdd: caps} }
	for _, test := range []struct {
		plugin, block string
		asked         Asked
		says          string // empty: allowed
	}{
		{asked: Asked{Privileged: true, CapAdd: []string{"all", "SYS_ADMIN"}}},
		{block: yes, asked: privileged},

		{plugin: no, asked: privileged, says: `config option "privileged": it is not allowed on this socket (plugin option allow_privileged)`},
		{block: no, asked: privileged, says: `"privileged": it is not allowed on this socket (plugin option socket.allow_privileged of "here")`},
		{plugin: yes, block: no, asked: privileged, says: `(plugin option socket.allow_privileged of "here")`},
		{plugin: no, block: yes, asked: privileged},
		{plugin: no, asked: Asked{}},

		{plugin: some, asked: add("NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "Cap_Sys_Time")},
		{plugin: some, asked: add("NET_ADMIN", "sys_admin", "CAP_SYS_PTRACE"), says: `config option "cap_add": ["sys_admin" "CAP_SYS_PTRACE"] are not allowed on this socket, ` +
			`only ["NET_ADMIN" "cap_sys_time"] (plugin option allow_caps)`},
		{plugin: some, asked: add("all"), says: `["all"] are not allowed`},
		{plugin: some, asked: add("CAP_ALL"), says: `["CAP_ALL"] are not allowed`},
		{plugin: some, asked: add("NET_ADMIN,SYS_ADMIN"), says: `["NET_ADMIN,SYS_ADMIN"] are not allowed`},
		{plugin: some, asked: add(""), says: `[""] are not allowed`},
		{plugin: some, asked: add("CHOWN"), says: `["CHOWN"] are not allowed`},
		{plugin: none, asked: add("CHOWN"), says: `["CHOWN"] are not allowed on this socket, only [] (plugin option allow_caps)`},
		{plugin: none, asked: Asked{}},
		{plugin: all, asked: add("sys_admin", "ALL")},
		{plugin: none, block: some, asked: add("NET_ADMIN")},
		{plugin: all, block: some, asked: add("CHOWN"), says: `(plugin option socket.allow_caps of "here")`},
		{plugin: some, block: none, asked: add("NET_ADMIN"), says: `only [] (plugin option socket.allow_caps of "here")`},
		{plugin: some, block: yes, asked: add("CHOWN"), says: `(plugin option allow_caps)`},

		// One decides about the other.
		{plugin: some, asked: privileged, says: `config option "privileged": it gives every capability, and only ["NET_ADMIN" "cap_sys_time"] are allowed on this socket ` +
			`(plugin option allow_caps; allow_privileged can allow it nevertheless)`},
		{block: none, asked: privileged, says: `(plugin option socket.allow_caps of "here"; allow_privileged can allow it nevertheless)`},
		{plugin: all, asked: privileged},
		{plugin: some + "\n" + yes, asked: privileged},
		{plugin: some, block: yes, asked: privileged},
		{plugin: no, asked: add("SYS_ADMIN"), says: `"cap_add": ["SYS_ADMIN"] are not allowed on this socket, only ["CAP_CHOWN" `},
		{plugin: no, asked: add("all"), says: `(plugin option allow_privileged; allow_caps can allow others)`},
		{plugin: no, asked: add("CHOWN", "net_bind_service")},
		{plugin: no + "\n" + some, asked: add("NET_ADMIN")},
		{plugin: no, block: all, asked: add("SYS_ADMIN")},
		{plugin: no, block: all, asked: privileged, says: `(plugin option allow_privileged)`},
	} {
		t.Run(fmt.Sprintf("%s; %s; %+v", test.plugin, test.block, test.asked), func(t *testing.T) {
			plugin, err := parsePlugin(t, test.plugin+"\nsocket {\n name = \"here\"\n host_user = \"team-a\"\n"+test.block+"\n}")
			must.NoError(t, err)
			err = plugin.CheckPrivileges(test.asked, plugin.Sockets[0])
			if test.says == "" {
				must.NoError(t, err)
				return
			}
			must.ErrorContains(t, err, test.says)
		})
	}
}

func TestAsked(t *testing.T) {
	task, err := parseTask(t, "image = \"a\"\n host_user = \"team-a\"\n privileged = true\n cap_add = [\"all\"]")
	must.NoError(t, err)
	must.Eq(t, Asked{HostUser: "team-a", Privileged: true, CapAdd: []string{"all"}}, task.Asked())
}
