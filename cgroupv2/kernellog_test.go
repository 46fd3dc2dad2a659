package cgroupv2

import (
	"errors"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

func TestHasOOMKill(t *testing.T) {
	const scope = "/user.slice/user-2001.slice/user@2001.service/user.slice/libpod-4f2a.scope"
	const kill = "6,812,53211873,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=container,mems_allowed=0," +
		"oom_memcg=" + scope + "/container,task_memcg=" + scope + "/container,task=dd,pid=2317,uid=101000\n"
	for name, tc := range map[string]struct {
		log  []any // records and errors
		name string
		want bool
		err  error
	}{
		"killed":           {log: []any{"6,1,0,-;Linux\n", kill}, name: "4f2a", want: true},
		"another's":        {log: []any{kill}, name: "77aa"},
		"empty":            {name: "4f2a"},
		"overwritten":      {log: []any{unix.EPIPE, unix.EINTR, kill}, name: "4f2a", want: true},
		"named otherwise":  {log: []any{"6,1,0,-;audit: libpod-4f2a.scope\n"}, name: "4f2a"},
		"a process's name": {log: []any{"6,1,0,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=/a.scope,task=4f2a,pid=1,uid=0\n"}, name: "4f2a"},
		"all of the host":  {log: []any{"6,1,0,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=" + scope + ",task=dd,pid=1,uid=0\n"}, name: "4f2a", want: true},
		"refused":          {log: []any{unix.EPERM}, name: "4f2a", err: unix.EPERM},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := hasOOMKill(func(record []byte) (int, error) {
				if len(tc.log) == 0 {
					return 0, unix.EAGAIN
				}
				next := tc.log[0]
				tc.log = tc.log[1:]
				if errno, ok := next.(unix.Errno); ok {
					return 0, errno
				}
				return copy(record, next.(string)), nil
			}, tc.name)
			must.True(t, errors.Is(err, tc.err), must.Sprint(err))
			must.Eq(t, tc.want, found)
		})
	}
}
