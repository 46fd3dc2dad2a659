package rootless

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// endOfIDs is one more than the highest ID: -1 is none (user_namespaces(7)).
const endOfIDs = 1<<32 - 1

// idRange is count IDs from first on, which a line gives to the owner: a user by name or UID.
type idRange struct {
	owner        string
	first, count uint64
}

func (r idRange) end() uint64             { return r.first + r.count }
func (r idRange) overlaps(o idRange) bool { return r.first < o.end() && o.first < r.end() }
func (r idRange) holds(id uint32) bool    { return r.first <= uint64(id) && uint64(id) < r.end() }
func (r idRange) String() string          { return fmt.Sprintf("%d-%d", r.first, r.end()-1) }
func (r idRange) line() string            { return fmt.Sprintf("%s:%d:%d", r.owner, r.first, r.count) }

func (r idRange) of(u User) bool {
	return r.owner == u.Name || r.owner == strconv.FormatUint(uint64(u.UID), 10)
}

// count is how many IDs there are in ranges, which may overlap.
func count(ranges []idRange) uint64 {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b idRange) int { return cmp.Compare(a.first, b.first) })
	var total, end uint64
	for _, r := range sorted {
		if r.end() > end {
			total += r.end() - max(r.first, end)
			end = r.end()
		}
	}
	return total
}

// idFile is /etc/subuid or /etc/subgid.
type idFile struct {
	path    string // without the leading slash
	option  string // what usermod(8) calls its IDs
	missing bool
	ranges  []idRange
}

// readIDFiles reads both files, unless others decide: then they are from elsewhere.
func readIDFiles(root fs.FS) (files [2]idFile, elsewhere bool, err error) {
	files = [2]idFile{{path: "etc/subuid", option: "subuids"}, {path: "etc/subgid", option: "subgids"}}
	err = eachLine(root, "etc/nsswitch.conf", func(line string) {
		if services, ok := strings.CutPrefix(line, "subid:"); ok {
			elsewhere = strings.TrimSpace(services) != "files"
		}
	})
	if missing(err) {
		err = nil
	}
	if err != nil || elsewhere {
		return files, elsewhere, err
	}
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
				f.ranges = append(f.ranges, idRange{fields[0], first, count})
			}
		})
		if f.missing = missing(err); err != nil && !f.missing {
			return files, false, err
		}
	}
	return files, false, nil
}

// of are the user's ranges.
func (f idFile) of(u User) []idRange {
	return slices.DeleteFunc(slices.Clone(f.ranges), func(r idRange) bool { return !r.of(u) })
}

// lack says how many subordinate IDs the file gives the user; nothing where they are enough.
func (f idFile) lack(u User) string {
	if has := count(f.of(u)); has < minSubordinateIDs {
		return fmt.Sprintf("host user %s has %d subordinate IDs in /%s", u, has, f.path)
	}
	return ""
}

// account is a user or group that has an ID of its own.
type account struct {
	path string // of the file that says so, without the leading slash
	name string
	id   uint32
}

// is tells whether the owner of a range is this account.
func (a account) is(owner string) bool {
	return a.name == owner || strconv.FormatUint(uint64(a.id), 10) == owner
}

// accounts are those of passwd(5) or group(5), of whose lines NAME:PASSWORD:ID:… as many count as can be read.
func accounts(root fs.FS, path string) []account {
	var all []account
	_ = eachLine(root, path, func(line string) {
		if fields := strings.Split(line, ":"); len(fields) > 3 {
			if id, err := parseID(fields[2]); err == nil {
				all = append(all, account{path, fields[0], id})
			}
		}
	})
	return all
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// maxIDFile bounds a file, in bytes. A line of group(5) may be nearly as long: it has all members.
const maxIDFile = 16 << 20

// eachLine calls fn for each line of a file without comments and surrounding space.
func eachLine(root fs.FS, path string, fn func(string)) (err error) {
	f, err := root.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	limited := &io.LimitedReader{R: f, N: maxIDFile}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, maxIDFile)
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		fn(strings.TrimSpace(line))
	}
	err = scanner.Err()
	if err == nil && limited.N == 0 {
		err = fmt.Errorf("longer than %d bytes", maxIDFile)
	}
	if err != nil {
		return fmt.Errorf("reading /%s: %w", path, err)
	}
	return nil
}
