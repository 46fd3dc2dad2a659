package rootless

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// layOut makes a directory laid out like a root directory.
func layOut(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		must.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return root
}

func TestFindNamespaces(t *testing.T) {
	const (
		ns     = "proc/self/ns/user"
		most   = "proc/sys/user/max_user_namespaces"
		clone  = "proc/sys/kernel/unprivileged_userns_clone"
		armor  = "proc/sys/kernel/apparmor_restrict_unprivileged_userns"
		loaded = "sys/kernel/security/apparmor/profiles"
		file   = "etc/apparmor.d/podman"
	)
	for name, test := range map[string]struct {
		files    map[string]string
		seen     string // empty: all is well
		commands []string
	}{
		"plain":     {map[string]string{ns: "", most: "63000\n"}, "", nil},
		"Debian's":  {map[string]string{ns: "", most: "63000\n", clone: "1\n"}, "", nil},
		"no kernel": {map[string]string{most: "0\n"}, "this kernel has no user namespaces", nil},
		"none": {map[string]string{ns: "", most: "0\n"}, "user.max_user_namespaces is 0", []string{
			`printf '%s\n' 'user.max_user_namespaces = 28633' >/etc/sysctl.d/90-nomad-driver-podman-user.max_user_namespaces.conf`,
			"sysctl -w user.max_user_namespaces=28633",
		}},
		"not for users": {map[string]string{ns: "", clone: "0\n"}, "kernel.unprivileged_userns_clone is 0", []string{
			"printf ", "sysctl -w kernel.unprivileged_userns_clone=1",
		}},
		"Ubuntu's":         {map[string]string{ns: "", armor: "1\n", loaded: "crun (unconfined)\npodman (unconfined)\n"}, "", nil},
		"Ubuntu's, unseen": {map[string]string{ns: "", armor: "1\n", file: "profile podman {}"}, "", nil},
		"unrestricted":     {map[string]string{ns: "", armor: "0\n", loaded: ""}, "", nil},
		"not loaded": {map[string]string{ns: "", armor: "1\n", loaded: "podman-other (enforce)\n", file: "profile podman {}"}, "no profile for podman",
			[]string{"apparmor_parser -r /etc/apparmor.d/podman"}},
		"no profile": {map[string]string{ns: "", armor: "1\n"}, "no profile for podman",
			[]string{"printf %s 'abi <abi/4.0>", "apparmor_parser -r /etc/apparmor.d/podman"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := findNamespaces(layOut(t, test.files))
			if test.seen == "" {
				must.Eq(t, finding.OK, f.Status, must.Sprint(f.Seen))
				return
			}
			must.Eq(t, finding.Fail, f.Status)
			must.StrContains(t, f.Seen, test.seen)
			must.False(t, f.Remedy.Safe)
			must.False(t, f.Remedy.IsZero())
			must.Len(t, len(test.commands), f.Remedy.Commands)
			for i, command := range test.commands {
				must.StrHasPrefix(t, command, f.Remedy.Commands[i])
			}
		})
	}
	must.NotEq(t, "", FindNamespaces().Seen)
}

func TestFindIDHelpers(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	uidmap, gidmap := filepath.Join(dir, "newuidmap"), filepath.Join(dir, "newgidmap")
	find := func() finding.Finding { return findIDHelpers([]string{"/no/such/directory", dir}) }

	missing := find()
	must.Eq(t, finding.Fail, missing.Status)
	must.StrContains(t, missing.Seen, "no newuidmap in /no/such/directory:"+dir+", no newgidmap in ")
	must.Eq(t, finding.Install("uidmap", "shadow-utils"), missing.Remedy)

	for _, path := range []string{uidmap, gidmap} {
		must.NoError(t, os.WriteFile(path, nil, 0o755))
		must.NoError(t, os.Chmod(path, 0o755|os.ModeSetuid))
	}
	good := find()
	must.Eq(t, finding.OK, good.Status, must.Sprint(good.Seen))
	must.True(t, good.Remedy.IsZero())

	must.NoError(t, os.Chmod(gidmap, 0o755))
	plain := find()
	must.Eq(t, finding.Fail, plain.Status)
	must.StrContains(t, plain.Seen, gidmap+" has neither the setuid bit nor the capability")
	must.Eq(t, finding.Remedy{Commands: []string{"chmod u+s " + gidmap}}, plain.Remedy)

	must.NoError(t, unix.Setxattr(gidmap, "security.capability", capabilities(0x02000001, 1<<unix.CAP_SETGID, 0, 0, 0), 0))
	must.Eq(t, finding.OK, find().Status)

	// Nobody shall have a program of another's run as root.
	must.NoError(t, os.Chown(uidmap, 65534, 0))
	foreign := find()
	must.StrContains(t, foreign.Seen, uidmap+" can be changed by others than root")
	must.SliceEmpty(t, foreign.Remedy.Commands)
	must.False(t, foreign.Remedy.Safe)
	must.NoError(t, os.Remove(gidmap))
	must.StrContains(t, strings.Join(find().Remedy.Commands, " "), "uidmap")
}

func capabilities(words ...uint32) []byte {
	var attribute []byte
	for _, word := range words {
		attribute = binary.LittleEndian.AppendUint32(attribute, word)
	}
	return attribute
}

func TestGivesCapability(t *testing.T) {
	const setuid = 1 << unix.CAP_SETUID
	for name, test := range map[string]struct {
		attribute []byte
		want      bool
	}{
		"revision 1":          {capabilities(0x01000001, setuid, 0), true},
		"revision 2":          {capabilities(0x02000001, setuid, 0, 0, 0), true},
		"revision 3":          {capabilities(0x03000001, setuid, 0, 0, 0, 0), true},
		"of a user namespace": {capabilities(0x03000001, setuid, 0, 0, 0, 1000), false},
		"inheritable":         {capabilities(0x02000001, 0, setuid, 0, 0), false},
		"not effective":       {capabilities(0x02000000, setuid, 0, 0, 0), false},
		"another":             {capabilities(0x02000001, 1<<unix.CAP_SETGID, 0, 0, 0), false},
		"unknown revision":    {capabilities(0x04000001, setuid, 0, 0, 0), false},
		"too short":           {capabilities(0x02000001, setuid), false},
		"nothing":             {nil, false},
	} {
		must.Eq(t, test.want, givesCapability(test.attribute, unix.CAP_SETUID), must.Sprint(name))
	}
}
