package postmortem

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containers/storage/pkg/ioutils"
)

// How much is kept: of the tasks that have ended badly last, their last runs.
const (
	keptTasks = 500
	keptRuns  = 3
)

// KeptFor is how long a record is kept at the most.
const KeptFor = 7 * 24 * time.Hour

// Store is the directory of the records, a file for each task.
type Store struct {
	dir string
	mu  sync.Mutex // a file is read and written again
}

// In returns the store of a state directory, which is made when something is put there.
func In(stateDir string) *Store { return &Store{dir: filepath.Join(stateDir, "postmortems")} }

// Dir is where the records are.
func (s *Store) Dir() string { return s.dir }

func (s *Store) path(r *Record) string {
	sum := sha256.Sum256([]byte(r.AllocID + "\x00" + r.Task))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+".json")
}

// Put keeps a record, and drops what is too old or too much.
func (s *Store) Put(r *Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	path := s.path(r)
	runs, _ := read(path) // one that cannot be read is replaced
	runs = append(runs, r)
	text, err := json.Marshal(runs[max(0, len(runs)-keptRuns):])
	if err != nil {
		return err
	}
	// Whoever reads sees all of a file or nothing of it. It is worth no wait for the disk.
	if err := ioutils.AtomicWriteFileWithOpts(path, text, 0o600, &ioutils.AtomicFileWriterOptions{NoSync: true}); err != nil {
		return err
	}
	return s.prune()
}

// prune removes the files of tasks that have ended badly too long ago, or before too many others.
func (s *Store) prune() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil { // else it is gone
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var errs []error
	for i, file := range files {
		if i >= keptTasks || time.Since(file.ModTime()) > KeptFor {
			errs = append(errs, os.Remove(filepath.Join(s.dir, file.Name())))
		}
	}
	return errors.Join(errs...)
}

// Find returns the records of the one allocation whose ID begins with the prefix, and of one task of it, unless that is
// "". They are in the order of the ends. The error names files that cannot be read; what is found in others is returned, too.
func (s *Store) Find(prefix, task string) ([]*Record, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var found []*Record
	var errs []error
	for _, path := range paths {
		runs, err := read(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // else dropped meanwhile
			errs = append(errs, err)
		}
		for _, r := range runs {
			if strings.HasPrefix(r.AllocID, prefix) && (task == "" || r.Task == task) {
				found = append(found, r)
			}
		}
	}
	slices.SortFunc(found, func(a, b *Record) int { return a.EndedAt.Compare(b.EndedAt) })
	var allocs []string
	for _, r := range found {
		if !slices.Contains(allocs, r.AllocID) {
			allocs = append(allocs, r.AllocID)
		}
	}
	if len(allocs) > 1 {
		return nil, errors.Join(append(errs, fmt.Errorf("more than one allocation begins with %q: %s", prefix, strings.Join(allocs, ", ")))...)
	}
	return found, errors.Join(errs...)
}

func read(path string) ([]*Record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var runs []*Record
	if err := json.Unmarshal(text, &runs); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if slices.Contains(runs, nil) {
		return nil, fmt.Errorf("%s: a record is missing", path)
	}
	return runs, nil
}
