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
	type answer struct {
		text string
		err  error
	}
	for name, tc := range map[string]struct {
		log  []answer
		name string
		want bool
		err  error
	}{
		"killed":           {log: []answer{{text: "6,1,0,-;Linux\n"}, {text: kill}}, name: "4f2a", want: true},
		"another's":        {log: []answer{{text: kill}}, name: "77aa"},
		"empty":            {name: "4f2a"},
		"overwritten":      {log: []answer{{err: unix.EPIPE}, {err: unix.EINTR}, {text: kill}}, name: "4f2a", want: true},
		"named otherwise":  {log: []answer{{text: "6,1,0,-;audit: libpod-4f2a.scope\n"}}, name: "4f2a"},
		"a process's name": {log: []answer{{text: "6,1,0,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=/a.scope,task=4f2a,pid=1,uid=0\n"}}, name: "4f2a"},
		"all of the host":  {log: []answer{{text: "6,1,0,-;oom-kill:constraint=CONSTRAINT_NONE,global_oom,task_memcg=" + scope + ",task=dd,pid=1,uid=0\n"}}, name: "4f2a", want: true},
		"refused":          {log: []answer{{err: unix.EPERM}}, name: "4f2a", err: unix.EPERM},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := hasOOMKill(func(record []byte) (int, error) {
				if len(tc.log) == 0 {
					return 0, unix.EAGAIN
				}
				next := tc.log[0]
				tc.log = tc.log[1:]
				return copy(record, next.text), next.err
			}, tc.name)
			must.True(t, errors.Is(err, tc.err), must.Sprint(err))
			must.Eq(t, tc.want, found)
		})
	}
}
