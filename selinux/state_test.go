package selinux

import (
	"testing"
	"testing/fstest"

	selinux "github.com/opencontainers/selinux/go-selinux"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/finding"
)

func TestFindState(t *testing.T) {
	const container = "var/lib/selinux/targeted/active/modules/200/container/cil"
	for name, test := range map[string]struct {
		mode  int
		files map[string]string
		want  finding.Status
		seen  string
	}{
		"nothing":      {selinux.Disabled, nil, finding.OK, "neither SELinux nor AppArmor is on"},
		"AppArmor":     {selinux.Disabled, map[string]string{"sys/module/apparmor/parameters/enabled": "Y\n"}, finding.OK, "AppArmor is on"},
		"AppArmor off": {selinux.Disabled, map[string]string{"sys/module/apparmor/parameters/enabled": "N\n"}, finding.OK, "neither SELinux nor AppArmor is on"},
		"permissive":   {selinux.Permissive, map[string]string{"var/lib/selinux/targeted/active/modules/100/base/cil": ""}, finding.OK, "SELinux is permissive, with the policy targeted: it forbids nothing"},
		"enforcing":    {selinux.Enforcing, map[string]string{container: ""}, finding.OK, "SELinux is enforcing, with the policy targeted"},
		"not for root": {selinux.Enforcing, nil, finding.OK, "SELinux is enforcing, with the policy targeted"},
		"no module": {selinux.Enforcing, map[string]string{"var/lib/selinux/targeted/active/modules/100/base/cil": ""}, finding.Warn,
			"SELinux is enforcing, with the policy targeted, which has no module container"},
		"another policy": {selinux.Enforcing, map[string]string{
			"etc/selinux/config": "# SELINUXTYPE=targeted\nSELINUX=enforcing\nSELINUXTYPE=mls \n", container: "", "var/lib/selinux/mls/active/modules/100/base/cil": "",
		}, finding.Warn, "SELinux is enforcing, with the policy mls, which has no module container"},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for file, text := range test.files {
				root[file] = &fstest.MapFile{Data: []byte(text)}
			}
			f := findState(root, test.mode)
			must.EqOp(t, test.want, f.Status)
			must.EqOp(t, test.seen, f.Seen)
			must.EqOp(t, test.want == finding.Warn, !f.Remedy.IsZero() && f.Why != "")
		})
	}
	must.Len(t, 1, FindState())
}
