package rootless

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"nomad-driver-podman/finding"
)

// minSubordinateIDs is how many subordinate IDs a rootless user must have: images use IDs up to 65535.
const minSubordinateIDs = 65536

// endOfIDs is one more than the highest ID: -1 is none (user_namespaces(7)).
const endOfIDs = 1<<32 - 1

// CheckSubordinateIDs returns the error of FindSubordinateIDs.
func (u User) CheckSubordinateIDs() error { return u.FindSubordinateIDs().Err() }

// FindSubordinateIDs looks whether /etc/subuid and /etc/subgid (subuid(5)) give the user at least 65536 subordinate IDs
// each, which are nobody else's. Where nsswitch.conf(5) lets another service than these files decide, podman is the only
// one to ask, and nothing is looked at.
func (u User) FindSubordinateIDs() finding.Finding {
	if u.IsRoot() {
		return finding.Skip(idSubordinate, u.Name, "root needs none")
	}
	return u.findSubordinateIDs(os.DirFS("/"))
}

const idSubordinate = "subordinate-ids"

func (u User) findSubordinateIDs(root fs.FS) finding.Finding {
	elsewhere, err := subIDsFromElsewhere(root)
	if err != nil {
		return unreadableIDs(u, err)
	}
	if elsewhere {
		return finding.Skip(idSubordinate, u.Name, "nsswitch.conf(5) has another service than files decide")
	}
	files, err := readIDFiles(root)
	if err != nil {
		return unreadableIDs(u, err)
	}
	f := finding.Finding{ID: idSubordinate, Subject: u.Name, Status: finding.Fail}
	var seen []string
	var clashes [2][]idRange // by file: ranges of the user's that must go
	for i, file := range files {
		count, others := file.count(u), ""
		clashes[i], others = file.clashes(u)
		if count < minSubordinateIDs {
			seen = append(seen, fmt.Sprintf("host user %s has %d subordinate IDs in /%s", u, count, file.path))
			f.Why = fmt.Sprintf("rootless containers need %d", minSubordinateIDs)
		}
		if others != "" {
			seen = append(seen, others)
		}
	}
	if len(clashes[0])+len(clashes[1]) > 0 {
		f.Why = "whoever shares IDs with a container can act on its processes and files"
	}
	if seen == nil {
		return finding.Good(idSubordinate, u.Name, "%d in /%s, %d in /%s",
			files[0].count(u), files[0].path, files[1].count(u), files[1].path)
	}
	f.Seen, f.Remedy = strings.Join(seen, ", "), u.giveIDs(root, files, clashes)
	return f
}

// unreadableIDs is a failure, as podman's own look at these files will be.
func unreadableIDs(u User, err error) finding.Finding {
	return finding.Finding{ID: idSubordinate, Subject: u.Name, Status: finding.Fail, Cause: err,
		Seen: err.Error(), Why: "nobody can tell the user's subordinate IDs"}
}

// idRange is count IDs from first on. They are the owner's: a user by name or UID, or an account that has this very ID.
type idRange struct {
	owner        string
	account      bool
	first, count uint64
}

func (r idRange) end() uint64             { return r.first + r.count }
func (r idRange) overlaps(o idRange) bool { return r.first < o.end() && o.first < r.end() }
func (r idRange) String() string          { return fmt.Sprintf("%d-%d", r.first, r.end()-1) }

func (r idRange) of(u User) bool {
	return !r.account && (r.owner == u.Name || r.owner == strconv.FormatUint(uint64(u.UID), 10))
}

// idFile is /etc/subuid or /etc/subgid, and the accounts or groups that have IDs of their own.
type idFile struct {
	path     string // without the leading slash
	accounts string // the same, of the file of accounts or groups
	ranges   []idRange
}

func readIDFiles(root fs.FS) ([2]idFile, error) {
	files := [2]idFile{{path: "etc/subuid", accounts: "etc/passwd"}, {path: "etc/subgid", accounts: "etc/group"}}
	for i := range files {
		f := &files[i]
		// Lines NAME_OR_UID:FIRST:COUNT. One that shadow's tools could not parse gives no IDs.
		err := eachLine(root, f.path, func(line string) {
			fields := strings.Split(line, ":")
			if len(fields) != 3 {
				return
			}
			first, err1 := strconv.ParseUint(fields[1], 10, 32)
			count, err2 := strconv.ParseUint(fields[2], 10, 32)
			if err1 == nil && err2 == nil && count > 0 {
				f.ranges = append(f.ranges, idRange{owner: fields[0], first: first, count: count})
			}
		})
		if err != nil {
			return files, err
		}
		// Lines NAME:PASSWORD:ID:… of passwd(5) and group(5).
		err = eachLine(root, f.accounts, func(line string) {
			if fields := strings.Split(line, ":"); len(fields) > 3 {
				if id, err := parseID(fields[2]); err == nil {
					f.ranges = append(f.ranges, idRange{owner: fields[0], account: true, first: uint64(id), count: 1})
				}
			}
		})
		if err != nil {
			return files, err
		}
	}
	return files, nil
}

// count is how many subordinate IDs the file gives the user.
func (f idFile) count(u User) uint64 {
	var total uint64
	for _, r := range f.ranges {
		if r.of(u) {
			total += r.count
		}
	}
	return total
}

// clashes are the user's ranges that hold IDs of somebody else's, or that the kernel would not map. It says for the first
// of them, which and whose.
func (f idFile) clashes(u User) (ranges []idRange, what string) {
	for _, mine := range f.ranges {
		if !mine.of(u) {
			continue
		}
		whose := ""
		if mine.end() > endOfIDs {
			whose = "goes beyond the highest ID"
		}
		for _, other := range f.ranges {
			switch {
			case other.of(u) || !mine.overlaps(other):
			case other.account:
				whose = fmt.Sprintf("holds ID %d of %s in /%s", other.first, finding.Printable(other.owner), f.accounts)
			default:
				whose = fmt.Sprintf("overlaps %s of %s", other, finding.Printable(other.owner))
			}
		}
		if whose == "" {
			continue
		}
		if ranges = append(ranges, mine); what == "" {
			what = fmt.Sprintf("range %s of host user %s in /%s %s", mine, u, f.path, whose)
		}
	}
	return ranges, what
}

// inUse tells whether the user's podman may have files and a user namespace with the IDs that the user has by now.
func (u User) inUse() bool {
	used, err := look(u, func() (bool, error) {
		_, err := os.Lstat(filepath.Join(u.Home, ".local/share/containers"))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return true, err
	})
	return used || err != nil
}

func subIDsFromElsewhere(root fs.FS) (bool, error) {
	elsewhere := false
	err := eachLine(root, "etc/nsswitch.conf", func(line string) {
		if services, ok := strings.CutPrefix(line, "subid:"); ok {
			elsewhere = strings.TrimSpace(services) != "files"
		}
	})
	return elsewhere, err
}

// eachLine calls fn for each line of a file without comments and surrounding space. A missing file has no lines.
func eachLine(root fs.FS, path string, fn func(string)) error {
	f, err := root.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	scanner := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		fn(strings.TrimSpace(line))
	}
	if err := scanner.Err(); err != nil {
		_ = f.Close()
		return fmt.Errorf("reading /%s: %w", path, err)
	}
	return f.Close()
}
