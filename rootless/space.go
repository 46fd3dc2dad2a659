package rootless

import (
	"fmt"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// Space is that of a file system, in bytes.
type Space struct {
	Path        string
	Free, Total uint64
}

// SpaceAt returns the space at a path.
func SpaceAt(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	size := uint64(st.Bsize) //nolint:gosec // not negative
	return Space{path, st.Bavail * size, st.Blocks * size}, nil
}

// Find tells whether the space is enough.
func (s Space) Find(id, subject string) finding.Finding {
	return finding.Good(id, subject, "%d of %d bytes free at %s", s.Free, s.Total, s.Path)
}
