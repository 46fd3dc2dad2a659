package driver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containers/storage/pkg/ioutils"

	"nomad-driver-podman/allocdir"
)

// allocNote says that tasks have run in an allocation, whose directories the next agent that starts will open to everybody. It
// stays until Nomad has removed the directory, since the allocation may have no task just then.
type allocNote struct {
	Path   string      // of the allocation's directory
	Logs   allocdir.ID // in the boot BootID
	BootID string
}

// allocNotes is the directory of a node's notes.
type allocNotes struct{ dir string }

func (s allocNotes) path(alloc string) string { return filepath.Join(s.dir, stageID(alloc)+".json") }

func (s allocNotes) put(note allocNote) error {
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(s.path(note.Path)); err == nil && string(have) == string(text) {
		return nil
	}
	if err := ioutils.AtomicWriteFile(s.path(note.Path), text, 0o600); err != nil {
		return fmt.Errorf("noting the allocation's directory (plugin option state_dir): %w", err)
	}
	return nil
}

// all are the notes of allocations that are there. The others are removed.
func (s allocNotes) all() ([]allocNote, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var notes []allocNote
	var errs []error
	for _, path := range paths {
		var note allocNote
		text, err := os.ReadFile(path) //nolint:gosec // below the driver's own directory
		if err == nil {
			err = json.Unmarshal(text, &note)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		if _, err := os.Lstat(note.Path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(path))
			continue
		}
		notes = append(notes, note)
	}
	return notes, errors.Join(errs...)
}
