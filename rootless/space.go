package rootless

import (
	"errors"
	"fmt"
	"os"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// Free space, in bytes: with less than the first nothing can be counted on to work, with less than the second a single
// image may fill it.
const (
	tooLittleSpace = 64 << 20
	littleSpace    = 1 << 30
)

// tooFewInodes are about those of the files of a small image.
const tooFewInodes = 1000

// Space is that of a file system, for users other than root (statfs(2)). A quota of a user's does not show.
type Space struct {
	Path               string // what was looked at
	Free, Total        uint64 // bytes
	FreeInodes, Inodes uint64 // Inodes is 0 where the file system makes them as it needs them
}

// SpaceAt returns the space at a path, or where it would be made.
func SpaceAt(path string) (Space, error) {
	place, err := existing(path)
	if err != nil {
		return Space{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(place, &st); err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: place, Err: err}
	}
	size := uint64(st.Bsize) //nolint:gosec // not negative
	return Space{Path: path, Free: st.Bavail * size, Total: st.Blocks * size, FreeInodes: st.Ffree, Inodes: st.Files}, nil
}

// Find tells whether the space is enough for what a podman or this driver keeps.
func (s Space) Find(id, subject string) finding.Finding {
	f := finding.Good(id, subject, "%s of %s free at %s",
		units.BytesSize(float64(s.Free)), units.BytesSize(float64(s.Total)), finding.Printable(s.Path))
	inodes := fmt.Sprintf("%d of %d inodes free at %s", s.FreeInodes, s.Inodes, finding.Printable(s.Path))
	switch {
	case s.Free < tooLittleSpace:
		f.Status, f.Why = finding.Fail, "what tasks need cannot be written"
	case s.Inodes > 0 && s.FreeInodes < tooFewInodes:
		f.Status, f.Seen, f.Why = finding.Fail, inodes, "no more files can be made"
	case s.Free < littleSpace:
		f.Status, f.Why = finding.Warn, "a single image may fill it"
	case s.FreeInodes < s.Inodes/100:
		f.Status, f.Seen, f.Why = finding.Warn, inodes, "soon no more files can be made"
	default:
		return f
	}
	f.Remedy.Advice = "make room on that file system"
	return f
}

// FindSpace looks at the space where the user's podman keeps images and containers.
func (u User) FindSpace() finding.Finding {
	const id = "space"
	s := u.storage("")
	if errors.Is(s.err, errUnseen) {
		return finding.Unknown(id, u.Name, s.err)
	}
	space, err := look(u, func() (Space, error) { return SpaceAt(s.graphRoot) })
	if err != nil {
		return finding.Unknown(id, u.Name, err)
	}
	f := space.Find(id, u.Name)
	if !f.Remedy.IsZero() {
		f.Remedy.Advice += ", or remove images that no container uses (podman image prune as " + u.Name + ")"
	}
	return f
}
