package rootless

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// ProgramDirs are where podman looks for programs, the first that has one wins: the PATH of a service of systemd
// (systemd.exec(5), "$PATH").
var ProgramDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// FindIDHelpers looks at the programs that let users use their subordinate IDs.
func FindIDHelpers() finding.Finding { return findIDHelpers(ProgramDirs) }

func findIDHelpers(dirs []string) finding.Finding {
	f := finding.Good("id-helpers", finding.Host, "")
	var found, faults []string
	var missing bool
	for _, helper := range []struct {
		name       string
		capability int
	}{{"newuidmap", unix.CAP_SETUID}, {"newgidmap", unix.CAP_SETGID}} {
		path := findProgram(dirs, helper.name)
		if path == "" {
			missing = true
			faults = append(faults, "no "+helper.name+" in "+strings.Join(dirs, ":"))
			continue
		}
		found = append(found, path)
		if fault, remedy := lookAtHelper(path, helper.capability); fault != "" {
			faults = append(faults, path+" "+fault)
			f.Remedy.Commands = append(f.Remedy.Commands, remedy.Commands...)
			if remedy.Advice != "" {
				f.Remedy.Advice = remedy.Advice
			}
		}
	}
	if missing {
		install := finding.Install("uidmap", "shadow-utils")
		install.Commands = append(install.Commands, f.Remedy.Commands...)
		f.Remedy = install
	}
	if faults == nil {
		return finding.Good(f.ID, f.Subject, "%s", strings.Join(found, ", "))
	}
	f.Status, f.Seen, f.Why = finding.Fail, strings.Join(faults, ", "), "rootless podman cannot use the users' subordinate IDs"
	return f
}

func findProgram(dirs []string, name string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// lookAtHelper says what keeps a program from having the capability when a user runs it; nothing: an empty fault.
func lookAtHelper(path string, capability int) (fault string, remedy finding.Remedy) {
	var st unix.Stat_t
	var mount unix.Statfs_t
	if err := errors.Join(unix.Stat(path, &st), unix.Statfs(path, &mount)); err != nil {
		return err.Error(), finding.Remedy{}
	}
	switch {
	case st.Uid != 0 || st.Mode&0o022 != 0:
		return "can be changed by others than root", finding.Remedy{Advice: "install its package anew"}
	case mount.Flags&unix.ST_NOSUID != 0:
		return "is on a file system that is mounted with nosuid", finding.Remedy{Advice: "mount it without nosuid"}
	case st.Mode&unix.S_ISUID != 0 || hasCapability(path, capability):
		return "", finding.Remedy{}
	}
	// Never safe: somebody may have taken the bit away on purpose.
	return "has neither the setuid bit nor the capability that it needs",
		finding.Remedy{Commands: []string{finding.Command("chmod", "u+s", path)}}
}

// hasCapability tells whether a file gives a capability to whoever runs it.
func hasCapability(path string, capability int) bool {
	attribute := make([]byte, 64)
	n, err := unix.Getxattr(path, "security.capability", attribute)
	return err == nil && givesCapability(attribute[:n], capability)
}

// givesCapability reads the attribute security.capability, a struct vfs_cap_data or vfs_ns_cap_data (linux/capability.h):
// little-endian words, of which the first is the revision with a flag, the second holds the permitted capabilities up to 31
// and, in revision 3, the last the root of the user namespace in which it counts.
func givesCapability(attribute []byte, capability int) bool {
	const (
		revision1, revision2, revision3 = 0x01000000, 0x02000000, 0x03000000
		effective                       = 1 // without it the program would have to ask for what is permitted
	)
	if len(attribute) < 8 {
		return false
	}
	magic := binary.LittleEndian.Uint32(attribute)
	size, known := map[uint32]int{revision1: 12, revision2: 20, revision3: 24}[magic&0xff000000]
	if !known || len(attribute) != size || magic&effective == 0 {
		return false
	}
	if size == 24 && binary.LittleEndian.Uint32(attribute[20:]) != 0 {
		return false
	}
	return binary.LittleEndian.Uint32(attribute[4:])&(1<<capability) != 0
}
