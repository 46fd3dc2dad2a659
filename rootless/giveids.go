package rootless

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"nomad-driver-podman/finding"
)

// giveIDs is the remedy that takes from the user the ranges that clash, and gives as many IDs as a user needs where too few
// are left.
func (u User) giveIDs(root fs.FS, files [2]idFile, clashes [2][]idRange) finding.Remedy {
	var remedy finding.Remedy
	free, err := freeIDs(root, files, u)
	if err != nil {
		remedy.Advice = "give the user a range that no other user has (usermod --add-subuids, --add-subgids): " + err.Error()
		return remedy
	}
	args := []string{"usermod"}
	taken := false
	for i, option := range []string{"subuids", "subgids"} {
		left := files[i].count(u)
		for _, clash := range clashes[i] {
			args = append(args, "--del-"+option, clash.String())
			left -= clash.count
			taken = true
		}
		if left < minSubordinateIDs {
			args = append(args, "--add-"+option, free.String())
		}
	}
	remedy.Commands = []string{finding.Command(append(args, u.Name)...)}
	switch {
	case taken:
		// usermod(8) refuses to take IDs from a user who has processes.
		manager := fmt.Sprintf("user@%d.service", u.UID)
		remedy.Advice = "this ends everything that the user runs, and their images and containers stay with the old IDs: remove those first (podman system reset as the user)"
		remedy.Commands = []string{
			finding.Command("systemctl", "stop", manager), remedy.Commands[0], finding.Command("systemctl", "start", manager),
		}
	case u.inUse():
		remedy.Advice = "podman system migrate stops the user's containers"
		remedy.Commands = append(remedy.Commands, u.command("podman", "system", "migrate"))
	default:
		remedy.Safe = true
	}
	return remedy
}

// promised are the ranges that this process has told somebody to give to a user, by UID. So no two users are given the same
// range where all remedies are read before the first is followed.
var promised = struct {
	sync.Mutex
	to map[uint32]idRange
}{to: map[uint32]idRange{}}

// freeIDs finds the first range that nobody has as UIDs or GIDs, where useradd(8) would look for one: from SUB_UID_MIN to
// SUB_UID_MAX and the same of SUB_GID (login.defs(5)).
func freeIDs(root fs.FS, files [2]idFile, u User) (idRange, error) {
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
	promised.Lock()
	defer promised.Unlock()
	for uid, r := range promised.to {
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
	promised.to[u.UID] = free
	return free, nil
}
