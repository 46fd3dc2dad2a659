package rootless

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// aclAttribute is the extended attribute that holds a file's access control list (acl(5)).
const aclAttribute = "system.posix_acl_access"

// onlyFor is the list user::rwx,user:UID:r-x,group::---,mask::r-x,other::--- in the form of aclAttribute, which Linux has
// in include/uapi/linux/posix_acl_xattr.h and posix_acl.h.
func onlyFor(uid uint32) []byte {
	const (
		version = 2

		owner, user, group, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20

		none = math.MaxUint32 // the ID of entries that need none
	)
	list := binary.LittleEndian.AppendUint32(nil, version)
	for _, entry := range []struct {
		tag, permissions uint16
		id               uint32
	}{{owner, 0o7, none}, {user, 0o5, uid}, {group, 0, none}, {mask, 0o5, none}, {other, 0, none}} {
		list = binary.LittleEndian.AppendUint16(list, entry.tag)
		list = binary.LittleEndian.AppendUint16(list, entry.permissions)
		list = binary.LittleEndian.AppendUint32(list, entry.id)
	}
	return list
}

// openTo makes a directory root's and lets one user in besides, for reading. Others' containers may be starting from it:
// it stays open to the user all the time.
func openTo(dir *os.File, u User) error {
	if u.IsRoot() {
		return errors.Join(dir.Chown(0, 0), dir.Chmod(0o700))
	}
	err := unix.Fsetxattr(int(dir.Fd()), aclAttribute, onlyFor(u.UID), 0) //nolint:gosec // a descriptor
	if err == nil {
		return dir.Chown(0, 0)
	}
	if err != unix.EOPNOTSUPP {
		return fmt.Errorf("setting the access control list of %s: %w", dir.Name(), err)
	}
	if err := u.findGroup(os.DirFS("/"), dir.Name()).Err(); err != nil {
		return err
	}
	return errors.Join(dir.Chown(0, int(u.GID)), dir.Chmod(0o750))
}

const idStaging = "staging"

// FindStaging looks at whether a directory of root's can be opened to this user alone, as it must be for a Stage.
func (u User) FindStaging() finding.Finding {
	if u.IsRoot() {
		return finding.Skip(idStaging, u.Name, "root reaches every directory")
	}
	dir, err := existing(stageRoot)
	if err != nil {
		return finding.Unknown(idStaging, u.Name, err)
	}
	switch _, err := unix.Getxattr(dir, aclAttribute, nil); err {
	case nil, unix.ENODATA:
		return finding.Good(idStaging, u.Name, "only this user and root can reach the directories of tasks")
	case unix.EOPNOTSUPP:
		return u.findGroup(os.DirFS("/"), dir)
	default:
		return finding.Unknown(idStaging, u.Name, fmt.Errorf("reading the access control list of %s: %w", dir, err))
	}
}

// findGroup looks at whether the user's primary group can stand for the user, where dir can have no access control list.
func (u User) findGroup(root fs.FS, dir string) finding.Finding {
	group, other, err := u.primaryGroup(root)
	f := finding.Finding{ID: idStaging, Subject: u.Name, Status: finding.Fail, Cause: err,
		Seen:   dir + " is on a file system without POSIX access control lists, and ",
		Why:    "whoever has the group could reach the directories of this user's tasks, secrets too, while containers start",
		Remedy: finding.Remedy{Advice: "boot a kernel with CONFIG_TMPFS_POSIX_ACL"}}
	switch {
	case err != nil:
		f.Seen += fmt.Sprintf("whether others have %s, the primary group of host user %s, cannot be told: %s", group, u, err)
	case other != "":
		f.Seen += fmt.Sprintf("user %s has %s, the primary group of host user %s, too", other, group, u)
		f.Remedy.Advice += fmt.Sprintf(", or see to it that only %s has that group (usermod --gid)", u)
	default:
		return finding.Good(idStaging, u.Name, "nobody else has %s, this user's primary group", group)
	}
	return f
}

// primaryGroup names the user's primary group, and somebody else who has it: empty when nobody has but perhaps root. It is
// an error when there may be accounts that no file lists.
func (u User) primaryGroup(root fs.FS) (group, other string, err error) {
	group = fmt.Sprintf("group %d", u.GID)
	if err := onlyFiles(root); err != nil {
		return group, "", err
	}
	same := []string{u.Name} // names of the user and of root
	err = eachLine(root, "etc/passwd", func(line string) {
		fields := strings.Split(line, ":")
		if len(fields) < 4 {
			return
		}
		if id, err := parseID(fields[2]); err == nil && (id == 0 || id == u.UID) {
			same = append(same, fields[0])
		} else if id, err := parseID(fields[3]); err == nil && id == u.GID {
			other = fields[0]
		}
	})
	if err != nil {
		return group, "", err
	}
	err = eachLine(root, "etc/group", func(line string) {
		fields := strings.Split(line, ":")
		if len(fields) < 4 {
			return
		}
		if id, err := parseID(fields[2]); err != nil || id != u.GID {
			return
		}
		group = fmt.Sprintf("group %s (GID %d)", finding.Printable(fields[0]), u.GID)
		for member := range strings.SplitSeq(fields[3], ",") {
			if member != "" && !slices.Contains(same, member) {
				other = member
			}
		}
	})
	return group, finding.Printable(other), err
}

// nsswitchActions are what nsswitch.conf(5) has between services.
var nsswitchActions = regexp.MustCompile(`\[[^]]*\]`)

// moreAccounts are where systemd has accounts that may be in groups of /etc/group: of systemd-homed, and as records
// (nss-systemd(8), systemd-userdbd.service(8)). Those that it makes up itself are in none.
var moreAccounts = []string{"run/systemd/userdb/io.systemd.Home", "etc/userdb/*", "run/userdb/*", "run/host/userdb/*", "usr/lib/userdb/*"}

// onlyFiles makes sure that all accounts are in /etc/passwd and all members of groups in /etc/group. Few directory services
// tell whom they know.
func onlyFiles(root fs.FS) error {
	var elsewhere error
	err := eachLine(root, "etc/nsswitch.conf", func(line string) {
		database, services, _ := strings.Cut(line, ":")
		if database != "passwd" && database != "group" && database != "initgroups" {
			return
		}
		for _, service := range strings.Fields(nsswitchActions.ReplaceAllString(services, " ")) {
			if service != "files" && service != "systemd" {
				elsewhere = fmt.Errorf("/etc/nsswitch.conf has %s of %s, too", database, finding.Printable(service))
			}
		}
	})
	if err != nil && !missing(err) {
		return err
	}
	for _, pattern := range moreAccounts {
		if found, _ := fs.Glob(root, pattern); len(found) > 0 {
			elsewhere = fmt.Errorf("%s has accounts, too", filepath.Join("/", found[0]))
		}
	}
	return elsewhere
}
