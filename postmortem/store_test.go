package postmortem

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func recordOf(alloc, task string, minute int) *Record {
	return &Record{AllocID: alloc, Task: task, EndedAt: started.Add(time.Duration(minute) * time.Minute), Cause: Exit, Exit: &Status{Code: minute}, Stderr: []string{}}
}

// codes are the records' exit codes, by which recordOf numbers them.
func codes(records []*Record) []int {
	found := []int{}
	for _, r := range records {
		found = append(found, r.Exit.Code)
	}
	return found
}

func TestStore(t *testing.T) {
	state := t.TempDir()
	s := In(state)
	found, err := s.Find("aaaa", "")
	must.NoError(t, err)
	must.SliceEmpty(t, found)

	for i, task := range []string{"web", "web", "../db", "web", "web"} {
		must.NoError(t, s.Put(recordOf("aaaa-1", task, i)))
	}
	must.NoError(t, s.Put(recordOf("aaaa-2", "web", 9)))

	found, err = In(state).Find("aaaa-1", "")
	must.NoError(t, err)
	must.Eq(t, []int{1, 2, 3, 4}, codes(found)) // the last runs of each task
	found, err = s.Find("aaaa-1", "../db")
	must.NoError(t, err)
	must.Eq(t, []int{2}, codes(found))
	must.Eq(t, recordOf("aaaa-1", "../db", 2), found[0])
	_, err = s.Find("aaaa-", "")
	must.ErrorContains(t, err, `more than one allocation begins with "aaaa-": aaaa-1, aaaa-2`)

	for path, mode := range map[string]os.FileMode{s.dir: 0o700 | os.ModeDir, s.path(found[0]): 0o600} {
		info, err := os.Stat(path)
		must.NoError(t, err)
		must.Eq(t, mode, info.Mode())
	}
	outside, err := os.ReadDir(state)
	must.NoError(t, err)
	must.Len(t, 1, outside)
}

func TestStore_Damaged(t *testing.T) {
	s := In(t.TempDir())
	must.NoError(t, s.Put(recordOf("aaaa-1", "web", 1)))
	must.NoError(t, s.Put(recordOf("aaaa-1", "db", 2)))
	for _, damage := range []string{"", "[", "[null]", "{}"} {
		must.NoError(t, os.WriteFile(s.path(recordOf("aaaa-1", "web", 1)), []byte(damage), 0o600))
		found, err := s.Find("aaaa-1", "")
		must.ErrorContains(t, err, filepath.Base(s.path(recordOf("aaaa-1", "web", 1))))
		must.Eq(t, []int{2}, codes(found)) // the others can be read
	}
	must.NoError(t, s.Put(recordOf("aaaa-1", "web", 3)))
	found, err := s.Find("aaaa-1", "")
	must.NoError(t, err)
	must.Eq(t, []int{2, 3}, codes(found))
}

func TestStore_Prune(t *testing.T) {
	s := In(t.TempDir())
	age := func(r *Record, by time.Duration) {
		must.NoError(t, os.Chtimes(s.path(r), time.Time{}, time.Now().Add(-by)))
	}
	for i := range keptTasks {
		r := recordOf(fmt.Sprintf("aaaa-%d", i), "web", i)
		must.NoError(t, s.Put(r))
		age(r, time.Hour)
	}
	oldest, old := recordOf("aaaa-7", "web", 7), recordOf("aaaa-8", "web", 8)
	age(oldest, 2*time.Hour)
	must.NoError(t, s.Put(recordOf("bbbb", "web", 1)))
	must.FileNotExists(t, s.path(oldest))
	must.FileExists(t, s.path(old))

	age(old, KeptFor+time.Minute)
	must.NoError(t, s.Put(recordOf("bbbb", "web", 2)))
	must.FileNotExists(t, s.path(old))
	found, err := s.Find("", "web")
	must.Error(t, err) // of many
	must.SliceEmpty(t, found)
	files, err := os.ReadDir(s.dir)
	must.NoError(t, err)
	must.Len(t, keptTasks-1, files)
}
