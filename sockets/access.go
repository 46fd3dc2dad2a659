package sockets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"nomad-driver-podman/finding"
)

const everybody = "everybody"

// findAccess looks who but root can connect to a socket of root's podman.
func (e *Endpoint) findAccess() finding.Finding {
	const id = "socket-access"
	who, mode, err := whoReaches(e.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return finding.Skip(id, e.name, "nothing listens at %s yet", e.path)
	case err != nil:
		return finding.Unknown(id, e.name, err)
	case who == "":
		return finding.Good(id, e.name, "only root can connect to %s", e.path)
	}
	f := finding.Finding{
		ID: id, Subject: e.name, Status: finding.Warn, Seen: fmt.Sprintf("%s can connect to %s (mode %04o)", who, e.path, mode.Perm()),
		Why: "who can connect to root's podman is root, past all that Nomad and the driver allow",
	}
	if who == everybody {
		f.Status = finding.Fail
	}
	if e.managed {
		f.Remedy.Commands = dropIn(socketUnit, "Socket", "SocketMode=0600", "SocketUser=root", "SocketGroup=root")
	}
	f.Remedy.Commands = append(f.Remedy.Commands, finding.Command("chmod", "0600", e.path), finding.Command("chown", "root:root", e.path))
	f.Remedy.Advice = "who uses it now cannot any more"
	if !e.managed {
		f.Remedy.Advice += "; have the service that listens there make it so"
	}
	return f
}

// whoReaches names who but root may connect to a unix socket of root's, which needs the permission to write to it and to
// search each directory on the way (unix(7), path_resolution(7)). It is empty when nobody may.
func whoReaches(path string) (who string, mode fs.FileMode, err error) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", 0, err
	}
	mode = st.Mode()
	gid := groupOf(st)
	all, group := mode&0o002 != 0, gid != 0 && mode&0o020 != 0
	for dir := path; dir != "/"; {
		dir = filepath.Dir(dir)
		if st, err = os.Stat(dir); err != nil {
			return "", 0, err
		}
		open := st.Mode()&0o001 != 0
		all = all && open
		group = group && (open || groupOf(st) == gid && st.Mode()&0o010 != 0)
	}
	switch {
	case all:
		return everybody, mode, nil
	case !group:
		return "", mode, nil
	}
	name := strconv.FormatUint(uint64(gid), 10)
	if found, err := user.LookupGroupId(name); err == nil {
		name = found.Name
	}
	return "group " + name, mode, nil
}

func groupOf(st fs.FileInfo) uint32 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Gid
	}
	return 0
}
