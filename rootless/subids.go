package rootless

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"nomad-driver-podman/finding"
)

// minSubordinateIDs is how many subordinate IDs a rootless user must have: images use IDs up to 65535.
const minSubordinateIDs = 65536

// endOfIDs is one more than the highest ID: -1 is none (user_namespaces(7)).
const endOfIDs = 1<<32 - 1

// CheckSubordinateIDs makes sure that /etc/subuid and /etc/subgid (subuid(5)) give the user at least 65536 subordinate IDs
// each. It reads nothing else, since it is asked often; SubordinateIDs.Find has more to say. Where nsswitch.conf(5) lets
// another service than these files decide, podman is the only one to ask, and nothing is checked.
func (u User) CheckSubordinateIDs() error {
	if u.IsRoot() {
		return nil
	}
	return u.checkSubordinateIDs(os.DirFS("/"))
}

func (u User) checkSubordinateIDs(root fs.FS) error {
	if elsewhere, err := subIDsFromElsewhere(root); err != nil || elsewhere {
		return err
	}
	files := newIDFiles()
	for i := range files {
		if err := files[i].readRanges(root); err != nil {
			return unreadableIDs(u, err).Err()
		}
	}
	f := u.tooFewIDs(files)
	f.Remedy.Advice = fmt.Sprintf("give it a range that nobody else has (usermod --add-subuids, --add-subgids); nomad-driver-podman preflight -user %s tells one", u.Name)
	return f.Err()
}

const idSubordinate = "subordinate-ids"

// SubordinateIDs looks at the subordinate IDs of one user after the other, and remembers which ranges it has told to give to
// whom: where all remedies are read before the first is followed, no two users are to be given the same. The zero value is
// ready.
type SubordinateIDs struct {
	mu       sync.Mutex
	proposed map[uint32]idRange // by UID
}

// Find looks whether /etc/subuid and /etc/subgid (subuid(5)) give the user at least 65536 subordinate IDs each, which are
// nobody else's.
func (s *SubordinateIDs) Find(u User) finding.Finding {
	if u.IsRoot() {
		return finding.Skip(idSubordinate, u.Name, "root needs none")
	}
	return s.find(os.DirFS("/"), u)
}

func (s *SubordinateIDs) find(root fs.FS, u User) finding.Finding {
	elsewhere, err := subIDsFromElsewhere(root)
	if err != nil {
		return unreadableIDs(u, err)
	}
	if elsewhere {
		return finding.Skip(idSubordinate, u.Name, "nsswitch.conf(5) has another service than files decide")
	}
	files := newIDFiles()
	for i := range files {
		if err := files[i].readRanges(root); err != nil {
			return unreadableIDs(u, err)
		}
		files[i].readAccounts(root)
	}
	f := u.tooFewIDs(files)
	for i := range files {
		clashes := files[i].clashes(u)
		for _, c := range clashes {
			files[i].clashing = append(files[i].clashing, c.mine)
			if f.Status != finding.Fail {
				f.Status = c.means
			}
		}
		if len(clashes) > 0 {
			f.Seen = join(f.Seen, clashes[0].what)
			f.Why = join(f.Why, "whoever shares IDs with a container can act on its processes and files")
		}
		if twice := files[i].twice(u); twice != "" {
			f.Status, f.Seen, f.Why = finding.Fail, join(f.Seen, twice), join(f.Why, "no user namespace can have an ID twice")
			f.Remedy.Advice = "remove the line that is too much by hand"
		}
	}
	switch {
	case f.Status == finding.OK:
		f.Seen = fmt.Sprintf("%d in /%s, %d in /%s", files[0].count(u), files[0].path, files[1].count(u), files[1].path)
	case f.Remedy.Advice == "":
		f.Remedy = s.giveIDs(root, files, u)
	}
	return f
}

func join(texts, more string) string {
	if texts == "" || texts == more {
		return more
	}
	return texts + ", " + more
}

// tooFewIDs is the finding that the user has fewer subordinate IDs than containers need, or OK.
func (u User) tooFewIDs(files [2]idFile) finding.Finding {
	f := finding.Good(idSubordinate, u.Name, "")
	for _, file := range files {
		if count := file.count(u); count < minSubordinateIDs {
			f.Status, f.Why = finding.Fail, fmt.Sprintf("rootless containers need %d", minSubordinateIDs)
			f.Seen = join(f.Seen, fmt.Sprintf("host user %s has %d subordinate IDs in /%s", u, count, file.path))
		}
	}
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
	missing  bool
	ranges   []idRange
	users    map[string]bool // names and UIDs of accounts
	clashing []idRange       // the user's that must go
}

func newIDFiles() [2]idFile {
	return [2]idFile{{path: "etc/subuid", accounts: "etc/passwd"}, {path: "etc/subgid", accounts: "etc/group"}}
}

// readRanges reads lines NAME_OR_UID:FIRST:COUNT. One that shadow's tools could not parse gives no IDs.
func (f *idFile) readRanges(root fs.FS) error {
	_, err := fs.Stat(root, f.path)
	f.missing = errors.Is(err, fs.ErrNotExist)
	return eachLine(root, f.path, func(line string) {
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
}

// readAccounts reads lines NAME:PASSWORD:ID:… of passwd(5) and group(5). What cannot be read is in nobody's way.
func (f *idFile) readAccounts(root fs.FS) {
	f.users = map[string]bool{}
	entries := func(path string, fn func(name string, id uint32)) {
		_ = eachLine(root, path, func(line string) {
			if fields := strings.Split(line, ":"); len(fields) > 3 {
				if id, err := parseID(fields[2]); err == nil {
					fn(fields[0], id)
				}
			}
		})
	}
	entries("etc/passwd", func(name string, id uint32) {
		f.users[name], f.users[strconv.FormatUint(uint64(id), 10)] = id != 0, id != 0
	})
	entries(f.accounts, func(name string, id uint32) {
		f.ranges = append(f.ranges, idRange{owner: name, account: true, first: uint64(id), count: 1})
	})
}

// of are the user's ranges in the file, by their first IDs.
func (f *idFile) of(u User) []idRange {
	var own []idRange
	for _, r := range f.ranges {
		if r.of(u) {
			own = append(own, r)
		}
	}
	slices.SortStableFunc(own, func(a, b idRange) int { return cmp.Compare(a.first, b.first) })
	return own
}

// count is how many subordinate IDs the file gives the user.
func (f *idFile) count(u User) uint64 {
	var total, end uint64
	for _, r := range f.of(u) {
		total += max(r.end(), end) - max(r.first, end)
		end = max(r.end(), end)
	}
	return total
}

// twice says which IDs the file gives the user twice.
func (f *idFile) twice(u User) string {
	own := f.of(u)
	for i := 1; i < len(own); i++ {
		if own[i].overlaps(own[i-1]) {
			return fmt.Sprintf("ranges %s and %s of host user %s in /%s overlap", own[i-1], own[i], u, f.path)
		}
	}
	return ""
}

// clash is a range of the user's with IDs of somebody else's, or that the kernel would not map.
type clash struct {
	mine  idRange
	what  string
	means finding.Status
}

// clashes fail with another user who has the same IDs, who could act on what runs with them. A lone account and a line that is
// nobody's are warnings.
func (f *idFile) clashes(u User) []clash {
	var found []clash
	for _, mine := range f.of(u) {
		c := clash{mine: mine}
		if mine.end() > endOfIDs {
			c.what, c.means = "goes beyond the highest ID", finding.Fail
		}
		for _, other := range f.ranges {
			switch {
			case other.of(u) || !mine.overlaps(other) || c.means == finding.Fail:
			case other.account:
				c.what, c.means = fmt.Sprintf("holds ID %d of %s in /%s", other.first, finding.Printable(other.owner), f.accounts), finding.Warn
			case f.users[other.owner]:
				c.what, c.means = fmt.Sprintf("overlaps %s of %s", other, finding.Printable(other.owner)), finding.Fail
			default:
				c.what, c.means = fmt.Sprintf("overlaps %s of %s, who is no user of this host", other, finding.Printable(other.owner)), finding.Warn
			}
		}
		if c.what != "" {
			c.what = fmt.Sprintf("range %s of host user %s in /%s %s", mine, u, f.path, c.what)
			found = append(found, c)
		}
	}
	return found
}

// inUse tells whether the user's podman may have files and a user namespace with the IDs that the user has by now.
func (u User) inUse() bool {
	storage := u.storage("").graphRoot
	used, err := look(u, func() (bool, error) {
		_, err := os.Lstat(storage)
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

// maxIDFile bounds what is read of a file, in bytes.
const maxIDFile = 4 << 20

// eachLine calls fn for each line of a file without comments and surrounding space. A missing file has no lines.
func eachLine(root fs.FS, path string, fn func(string)) error {
	f, err := root.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	scanner := bufio.NewScanner(io.LimitReader(f, maxIDFile))
	scanner.Buffer(nil, maxIDFile) // a group may have many members
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
