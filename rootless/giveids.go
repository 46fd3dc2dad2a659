package rootless

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"nomad-driver-podman/finding"
)

// giveIDs is the remedy that takes from the user the ranges that clash, and gives as many IDs as a user needs where too few
// are left.
func (s *SubordinateIDs) giveIDs(root fs.FS, files [2]idFile, u User) finding.Remedy {
	free, err := s.freeIDs(root, files, u)
	if err != nil {
		return finding.Remedy{Advice: "give the user a range that no other user has (usermod --add-subuids, --add-subgids): " + err.Error()}
	}
	var remedy finding.Remedy
	args := []string{"usermod"}
	taken := false
	for i, option := range []string{"subuids", "subgids"} {
		file := files[i]
		if file.missing {
			remedy.Commands = append(remedy.Commands, finding.Command("touch", "/"+file.path)) // usermod does not make it
		}
		left := file.count(u)
		for _, clash := range file.clashing {
			if clash.owner != u.Name { // usermod does not find these
				return finding.Remedy{Advice: fmt.Sprintf("remove the line of %s for %s in /%s by hand, and give the user a range that nobody else has, such as %s", clash.owner, clash, file.path, free)}
			}
			args = append(args, "--del-"+option, clash.String())
			left -= min(left, clash.count)
			taken = true
		}
		if left < minSubordinateIDs {
			args = append(args, "--add-"+option, free.String())
		}
	}
	remedy.Commands = append(remedy.Commands, finding.Command(append(args, u.Name)...))
	switch {
	case taken:
		// usermod(8) refuses to take IDs from a user who has processes.
		manager := fmt.Sprintf("user@%d.service", u.UID)
		remedy.Advice = "this ends everything that the user runs, and their images and containers stay with the old IDs: remove those first (podman system reset as the user)"
		remedy.Commands = slices.Concat(
			[]string{finding.Command("systemctl", "stop", manager)}, remedy.Commands, []string{finding.Command("systemctl", "start", manager)},
		)
	case u.inUse():
		remedy.Advice = "podman system migrate stops the user's containers"
		remedy.Commands = append(remedy.Commands, u.command("podman", "system", "migrate"))
	default:
		remedy.Safe = true
	}
	return remedy
}

// freeIDs finds the first range that nobody has as UIDs or GIDs, where useradd(8) would look for one: from SUB_UID_MIN to
// SUB_UID_MAX and the same of SUB_GID (login.defs(5)).
func (s *SubordinateIDs) freeIDs(root fs.FS, files [2]idFile, u User) (idRange, error) {
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
	if err != nil {
		return idRange{}, err
	}
	taken := slices.Concat(files[0].ranges, files[1].ranges)
	s.mu.Lock()
	defer s.mu.Unlock()
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
