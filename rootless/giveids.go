package rootless

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"nomad-driver-podman/finding"
)

// giveIDs is the remedy that takes from the user the ranges that must go, and gives as many IDs as a user needs where too few
// are left.
func (s *SubordinateIDs) giveIDs(u User, root fs.FS, files [2]idFile, faults []idFault, accounts []account) finding.Remedy {
	var remedy finding.Remedy
	free, err := s.free(u, root, files, accounts)
	if err != nil {
		remedy.Advice = "give the user a range that no other user has (usermod --add-subuids, --add-subgids): " + err.Error()
		return remedy
	}
	args := []string{"usermod"}
	taken := false
	for _, file := range files {
		left := file.of(u)
		for _, fault := range faults {
			if i := slices.Index(left, fault.taken); fault.file == file.path && i >= 0 {
				args = append(args, "--del-"+file.option, fault.taken.String())
				left = slices.Delete(left, i, i+1)
				taken = true
			}
		}
		if count(left) < minSubordinateIDs {
			args = append(args, "--add-"+file.option, free.String())
		}
	}
	if files[0].missing || files[1].missing { // usermod(8) takes that for a host without subordinate IDs
		both := []string{"/" + files[0].path, "/" + files[1].path}
		remedy.Commands = []string{
			finding.Command(append([]string{"touch"}, both...)...),
			finding.Command(append([]string{"chmod", "0644"}, both...)...), // podman reads them as the user
		}
	}
	change := finding.Command(append(args, u.Name)...)
	switch {
	case taken:
		// usermod(8) refuses to take IDs from a user who has processes.
		manager := fmt.Sprintf("user@%d.service", u.UID)
		remedy.Advice = "this ends everything that the user runs, and their images and containers stay with the old IDs: remove those first (podman system reset as the user)"
		remedy.Commands = append(remedy.Commands,
			finding.Command("systemctl", "stop", manager), change, finding.Command("systemctl", "start", manager))
	case u.inUse():
		remedy.Advice = "podman system migrate stops the user's containers"
		remedy.Commands = append(remedy.Commands, change, u.command("podman", "system", "migrate"))
	default:
		remedy.Commands, remedy.Safe = append(remedy.Commands, change), true
	}
	return remedy
}

// free finds the first range that nobody has as UIDs or GIDs, where useradd(8) would look for one: from SUB_UID_MIN to
// SUB_UID_MAX and the same of SUB_GID (login.defs(5)).
func (s *SubordinateIDs) free(u User, root fs.FS, files [2]idFile, accounts []account) (idRange, error) {
	defs := map[string]uint64{
		"SUB_UID_MIN": 100000, "SUB_UID_MAX": 600100000, "SUB_UID_COUNT": minSubordinateIDs,
		"SUB_GID_MIN": 100000, "SUB_GID_MAX": 600100000, "SUB_GID_COUNT": minSubordinateIDs,
	}
	err := eachLine(root, "etc/login.defs", func(line string) {
		if fields := strings.Fields(line); len(fields) == 2 {
			if value, err := strconv.ParseUint(fields[1], 0, 32); err == nil && defs[fields[0]] != 0 {
				defs[fields[0]] = value
			}
		}
	})
	if err != nil && !missing(err) {
		return idRange{}, err
	}
	taken := slices.Concat(files[0].ranges, files[1].ranges)
	// The user's own, too: a user whom only a directory service knows is no account of these files.
	taken = append(taken, idRange{first: uint64(u.UID), count: 1}, idRange{first: uint64(u.GID), count: 1})
	for _, a := range accounts {
		taken = append(taken, idRange{first: uint64(a.id), count: 1})
	}
	for uid, r := range s.proposed {
		if uid != u.UID {
			taken = append(taken, r)
		}
	}
	free := idRange{first: max(defs["SUB_UID_MIN"], defs["SUB_GID_MIN"]), count: max(defs["SUB_UID_COUNT"], defs["SUB_GID_COUNT"], minSubordinateIDs)}
	last := min(defs["SUB_UID_MAX"], defs["SUB_GID_MAX"], endOfIDs-1)
	for moved := true; moved; {
		moved = false
		for _, r := range taken {
			if free.overlaps(r) {
				free.first, moved = r.end(), true
			}
		}
	}
	if free.end()-1 > last {
		return idRange{}, fmt.Errorf("none is free up to %d (SUB_UID_MAX in /etc/login.defs)", last)
	}
	if s.proposed == nil {
		s.proposed = map[uint32]idRange{}
	}
	s.proposed[u.UID] = free
	return free, nil
}

// inUse tells whether the user's podman may have files and a user namespace with the IDs that the user has by now.
func (u User) inUse() bool {
	s := u.storage("")
	if s.err != nil {
		return true
	}
	_, err := look(u, func() (os.FileInfo, error) { return os.Lstat(s.graphRoot) })
	return !missing(err)
}
