package rootless

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// minSubordinateIDs is how many subordinate IDs a rootless user must have: images use IDs up to 65535.
const minSubordinateIDs = 65536

// CheckSubordinateIDs makes sure that /etc/subuid and /etc/subgid (subuid(5)) give the user at least 65536
// subordinate IDs each. The error names the file and the remedy. Where nsswitch.conf(5) lets another service than
// these files decide, podman is the only one to ask, and nothing is checked.
func (u User) CheckSubordinateIDs() error {
	return u.checkSubordinateIDs(os.DirFS("/"))
}

func (u User) checkSubordinateIDs(root fs.FS) error {
	if elsewhere, err := subIDsFromElsewhere(root); err != nil || elsewhere {
		return err
	}
	for _, f := range []struct{ path, option string }{
		{"etc/subuid", "--add-subuids"},
		{"etc/subgid", "--add-subgids"},
	} {
		count, err := u.subordinateIDs(root, f.path)
		if err != nil {
			return err
		}
		if count < minSubordinateIDs {
			return fmt.Errorf("host user %s has %d subordinate IDs in /%s, rootless containers need %d; give it a range that no other user has, e.g. usermod %s 524288-589823 %s, then podman system migrate as that user",
				u, count, f.path, minSubordinateIDs, f.option, u)
		}
	}
	return nil
}

// subordinateIDs adds up the user's ranges in a file of lines NAME_OR_UID:START:COUNT.
func (u User) subordinateIDs(root fs.FS, path string) (uint64, error) {
	var total uint64
	uid := strconv.FormatUint(uint64(u.UID), 10)
	err := eachLine(root, path, func(line string) {
		fields := strings.Split(line, ":")
		if len(fields) != 3 || fields[0] != u.Name && fields[0] != uid {
			return
		}
		// A line that shadow's tools could not parse gives no IDs.
		if _, err := strconv.ParseUint(fields[1], 10, 32); err != nil {
			return
		}
		if count, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			total += count
		}
	})
	return total, err
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
