package rootless

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"nomad-driver-podman/finding"
)

// minSubordinateIDs is how many subordinate IDs a rootless user must have: images use IDs up to 65535.
const minSubordinateIDs = 65536

// CheckSubordinateIDs makes sure that /etc/subuid and /etc/subgid (subuid(5)) give the user at least 65536 subordinate IDs
// each. It reads no more than it needs to, and nothing of the user's: tasks wait for it. Where nsswitch.conf(5) lets another
// service than these files decide, podman is the only one to ask, and nothing is checked.
func (u User) CheckSubordinateIDs() error {
	if u.IsRoot() {
		return nil
	}
	return u.checkSubordinateIDs(os.DirFS("/"))
}

func (u User) checkSubordinateIDs(root fs.FS) error {
	files, elsewhere, err := readIDFiles(root)
	if err != nil || elsewhere {
		return err
	}
	for _, file := range files {
		if lack := file.lack(u); lack != "" {
			return fmt.Errorf("%s, rootless containers need %d; give it a range that no other user has: usermod --add-%s FIRST-LAST %s (nomad-driver-podman preflight -user %s finds a free one)",
				lack, minSubordinateIDs, file.option, u, u)
		}
	}
	return nil
}

// SubordinateIDs looks at the subordinate IDs of one user after the other. It remembers which ranges it has proposed for
// whom, so that no two users are given the same one where all remedies are read before the first is followed.
type SubordinateIDs struct {
	proposed map[uint32]idRange // by UID
}

// Find looks whether a user has as many subordinate IDs as CheckSubordinateIDs wants, whether the kernel can map them, and
// whether they are nobody else's.
func (s *SubordinateIDs) Find(u User) finding.Finding {
	if u.IsRoot() {
		return finding.Skip(idSubordinate, u.Name, "root needs none")
	}
	return s.find(u, os.DirFS("/"))
}

const idSubordinate = "subordinate-ids"

func (s *SubordinateIDs) find(u User, root fs.FS) finding.Finding {
	files, elsewhere, err := readIDFiles(root)
	if err != nil { // as podman's own look at these files will fail
		return finding.Finding{ID: idSubordinate, Subject: u.Name, Status: finding.Fail, Cause: err,
			Seen: err.Error(), Why: "nobody can tell the user's subordinate IDs"}
	}
	if elsewhere {
		return finding.Skip(idSubordinate, u.Name, "nsswitch.conf(5) has another service than files decide")
	}
	users, groups := accounts(root, "etc/passwd"), accounts(root, "etc/group")
	faults := slices.Concat(
		files[0].faults(u, users, users, u.UID),
		files[1].faults(u, users, groups, u.GID))
	if len(faults) == 0 {
		return finding.Good(idSubordinate, u.Name, "%d in /%s, %d in /%s",
			count(files[0].of(u)), files[0].path, count(files[1].of(u)), files[1].path)
	}
	f := finding.Finding{ID: idSubordinate, Subject: u.Name, Status: finding.Warn}
	if slices.ContainsFunc(faults, func(fault idFault) bool { return fault.status == finding.Fail }) {
		f.Status = finding.Fail
	}
	var seen, whys, advice []string
	for _, fault := range faults {
		seen = append(seen, fault.seen)
		whys = addOnce(whys, fault.why)
		if fault.status == f.Status && fault.advice != "" {
			advice = addOnce(advice, fault.advice)
		}
	}
	f.Seen, f.Why, f.Remedy.Advice = strings.Join(seen, ", "), strings.Join(whys, "; "), strings.Join(advice, "; ")
	if advice == nil {
		f.Remedy = s.giveIDs(u, root, files, faults, slices.Concat(users, groups))
	}
	return f
}

func addOnce(texts []string, text string) []string {
	if slices.Contains(texts, text) {
		return texts
	}
	return append(texts, text)
}

// idFault is what is wrong with a user's lines in a file.
type idFault struct {
	status    finding.Status
	seen, why string
	advice    string  // empty: usermod(8) can mend it
	file      string  // path of the idFile
	taken     idRange // is to be taken from the user; none where count is 0
}

// faults are what is wrong with the user's lines. users are those whom the other lines may belong to, accounts those who have
// the file's kind of IDs, and own is the user's own ID of that kind.
func (f idFile) faults(u User, users, accounts []account, own uint32) []idFault {
	const (
		shared   = "whoever shares IDs with a container can act on its processes and files"
		unmapped = "podman fails, since the kernel does not map these IDs"
	)
	var all []idFault
	add := func(mine idRange, status finding.Status, why, advice, format string, args ...any) {
		fault := idFault{status: status, why: why, advice: advice, file: f.path,
			seen: fmt.Sprintf("range %s of host user %s in /%s %s", mine, u, f.path, fmt.Sprintf(format, args...))}
		if status == finding.Fail && advice == "" {
			fault.taken = mine
			if mine.owner != u.Name {
				fault.advice = fmt.Sprintf("remove the line %s from /%s, which usermod does not do, and look again", mine.line(), f.path)
			}
		}
		all = append(all, fault)
	}
	if lack := f.lack(u); lack != "" {
		all = append(all, idFault{status: finding.Fail, seen: lack, why: fmt.Sprintf("rootless containers need %d", minSubordinateIDs), file: f.path})
	}
	lines := f.of(u)
	for i, mine := range lines {
		if mine.end() > endOfIDs {
			add(mine, finding.Fail, unmapped, "", "goes beyond the highest ID")
		}
		if mine.holds(own) {
			add(mine, finding.Fail, unmapped, "", "holds the user's own ID %d", own)
		}
		for _, again := range lines[i+1:] {
			if mine.overlaps(again) {
				add(mine, finding.Fail, unmapped, fmt.Sprintf("remove one of the lines %s and %s from /%s, and look again", mine.line(), again.line(), f.path),
					"overlaps the user's own %s", again)
			}
		}
		for _, other := range f.ranges {
			switch {
			case other.of(u) || !mine.overlaps(other):
			case slices.ContainsFunc(users, func(a account) bool { return a.id != 0 && a.is(other.owner) }):
				add(mine, finding.Fail, shared, "", "overlaps %s of %s", other, finding.Printable(other.owner))
			default: // nobody's processes have these
				add(mine, finding.Warn, shared, "remove the line of the other from /"+f.path+" if nobody needs it",
					"overlaps %s of %s", other, finding.Printable(other.owner))
			}
		}
		// One of them is enough to say so.
		if at := slices.IndexFunc(accounts, func(a account) bool { return a.id != own && mine.holds(a.id) }); at >= 0 {
			a := accounts[at]
			add(mine, finding.Warn, shared, "give one of them other IDs", "holds ID %d of %s in /%s", a.id, finding.Printable(a.name), a.path)
		}
	}
	return all
}
