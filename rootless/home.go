package rootless

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// noHome are what accounts have for a home directory that have none.
var noHome = map[string]bool{"": true, "/": true, "/nonexistent": true, "/dev/null": true}

// FindHome looks at the user's home directory.
func (u User) FindHome() finding.Finding {
	const id = "home"
	if u.IsRoot() {
		return finding.Skip(id, u.Name, "root's podman needs none")
	}
	f := finding.Finding{ID: id, Subject: u.Name, Status: finding.Fail, Why: "podman has no place for images and containers"}
	if noHome[u.Home] || !filepath.IsAbs(u.Home) {
		f.Seen = "the account has no home directory, but " + strconv.Quote(u.Home)
		f.Remedy.Advice = "give it one, with usermod --home"
		return f
	}
	st, err := look(u, func() (st unix.Stat_t, err error) {
		if err = unix.Stat(u.Home, &st); err == nil && st.Uid == u.UID {
			err = unix.Faccessat(unix.AT_FDCWD, u.Home, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		}
		return st, err
	})
	// mend gives the command, unless somebody else could turn it against another directory.
	mend := func(safe bool, args ...string) {
		if OnlyRootChanges(filepath.Dir(u.Home)) {
			f.Remedy.Commands, f.Remedy.Safe = []string{finding.Command(args...)}, safe
		} else {
			f.Remedy.Advice = "mend it by hand: a directory above it is missing, or others than root can change it"
		}
	}
	switch {
	case errors.Is(err, errUnseen):
		return finding.Unknown(id, u.Name, err)
	case errors.Is(err, os.ErrNotExist):
		f.Seen = u.Home + " does not exist"
		mend(false, "install", "-d", "-o", u.Name, "-g", strconv.FormatUint(uint64(u.GID), 10), "-m", "0700", u.Home)
		if f.Remedy.Advice == "" {
			f.Remedy.Advice = "look first whether a file system that has it is not mounted"
		}
	case st.Mode == 0 && errors.Is(err, os.ErrPermission):
		f.Seen = u.Home + " is out of the user's reach"
		f.Remedy.Advice = "let the user pass the directories above it; " + finding.Command("namei", "-om", u.Home) + " shows them"
	case st.Mode == 0:
		return finding.Unknown(id, u.Name, err)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		f.Seen = u.Home + " is not a directory"
		f.Remedy.Advice = "look what it is, and make a directory there"
	case st.Uid != u.UID:
		f.Seen = u.Home + " is owned by " + nameOf(st.Uid)
		if filepath.Base(u.Home) != u.Name { // such as daemon's /usr/sbin
			f.Remedy.Advice = "give the account a home directory of its own (usermod --home)"
			break
		}
		mend(false, "chown", "--no-dereference", u.Name+":", u.Home)
		if f.Remedy.Advice == "" {
			f.Remedy.Advice = "look first whose it is and what is in it"
		}
	case errors.Is(err, os.ErrPermission):
		f.Seen = u.Home + " is not open to its own user"
		mend(true, "chmod", "u+rwx", u.Home)
	case err != nil: // such as a read-only file system
		f.Seen = u.Home + ": " + err.Error()
		f.Remedy.Advice = "mount a file system there that the user can write to"
	default:
		return u.findNetworkHome(finding.Good(id, u.Name, "%s", u.Home))
	}
	return f
}

// findNetworkHome makes a warning of a good home when podman's storage would be on NFS.
func (u User) findNetworkHome(f finding.Finding) finding.Finding {
	graphRoot := u.storage("").graphRoot
	fs, err := look(u, func() (fs unix.Statfs_t, err error) {
		place, err := existing(graphRoot)
		if err == nil {
			err = unix.Statfs(place, &fs)
		}
		return fs, err
	})
	if err == nil && fs.Type == unix.NFS_SUPER_MAGIC {
		f.Status, f.Seen, f.Why = finding.Warn, finding.Printable(graphRoot)+" is on NFS", "podman's overlay storage does not work there"
		f.Remedy.Advice = "set graphroot in the user's storage.conf (containers-storage.conf(5)) to a directory on a local disk"
	}
	return f
}

// nameOf names the owner of a file.
func nameOf(uid uint32) string {
	if u, err := LookupUID(uid); err == nil {
		return u.Name
	}
	return User{UID: uid}.String()
}

// FindRuntimeDir looks at the user's runtime directory. managerRuns says whether it has to be there.
func (u User) FindRuntimeDir(managerRuns bool) finding.Finding {
	switch {
	case u.IsRoot():
		return finding.Skip(idRuntimeDir, u.Name, "root's podman needs none")
	case !managerRuns:
		return finding.Skip(idRuntimeDir, u.Name, "made when the user's manager starts")
	}
	return u.findRuntimeDir(u.RuntimeDir())
}

const idRuntimeDir = "runtime-dir"

// findRuntimeDir looks as root: above the directory everything is root's.
func (u User) findRuntimeDir(path string) finding.Finding {
	f := finding.Finding{ID: idRuntimeDir, Subject: u.Name, Status: finding.Fail,
		Why: "podman cannot keep there what it knows of running containers, and its socket"}
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.Seen = path + " does not exist, though the user's manager runs"
	case err != nil:
		return finding.Unknown(idRuntimeDir, u.Name, &os.PathError{Op: "lstat", Path: path, Err: err})
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		f.Seen = path + " is not a directory"
	case st.Uid != u.UID:
		f.Seen = path + " is owned by " + nameOf(st.Uid)
	case st.Mode&0o777 != 0o700:
		f.Seen = fmt.Sprintf("%s has mode %#o, not 0700", path, st.Mode&0o777)
	default:
		return finding.Good(idRuntimeDir, u.Name, "%s", path)
	}
	f.Remedy = finding.Remedy{
		Advice:   "this ends everything that the user runs",
		Commands: []string{finding.Command("systemctl", "restart", fmt.Sprintf("user-runtime-dir@%d.service", u.UID), fmt.Sprintf("user@%d.service", u.UID))},
	}
	return f
}
