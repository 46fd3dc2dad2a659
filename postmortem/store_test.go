package postmortem

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

	age(old, keptFor+time.Minute)
	must.NoError(t, s.Put(recordOf("bbbb", "web", 2)))
	must.FileNotExists(t, s.path(old))
	found, err := s.Find("", "web")
	must.Error(t, err) // of many
	must.SliceEmpty(t, found)
	files, err := os.ReadDir(s.dir)
	must.NoError(t, err)
	must.Len(t, keptTasks-1, files)
}

func TestMain_Arguments(t *testing.T) {
	state := t.TempDir()
	agent := filepath.Join(t.TempDir(), "agent.hcl")
	must.NoError(t, os.WriteFile(agent, fmt.Appendf(nil, "plugin \"nomad-driver-podman\" {\n config {\n state_dir = %q\n }\n}\n", state), 0o600))
	web, db := recordOf("aaaa-1", "web", 1), recordOf("aaaa-1", "db", 2)
	for _, r := range []*Record{web, db} {
		r.Judge()
		must.NoError(t, In(state).Put(r))
	}
	for name, tc := range map[string]struct {
		args  []string
		says  []string
		usage bool
		fails string
	}{
		"text":          {args: []string{"aaaa"}, says: []string{`Task "web" of allocation aaaa-1: It ended with exit code 1`, `Task "db"`}},
		"options after": {args: []string{"aaaa-1", "-task", "db", "-json"}, says: []string{`"summary": "It ended with exit code 2"`}},
		"no allocation": {usage: true, fails: "name one allocation"},
		"two":           {args: []string{"aaaa-1", "bbbb-1"}, usage: true, fails: "name one allocation"},
		"too short":     {args: []string{"aaa"}, usage: true, fails: "at least 4 characters"},
		"wrong option":  {args: []string{"aaaa-1", "-x"}, usage: true, fails: "-x"},
		"not there":     {args: []string{"bbbb"}, fails: `has no record of allocation "bbbb"`},
		"no such task":  {args: []string{"aaaa", "-task", "x"}, fails: `has no record of task "x" of allocation "aaaa"`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := Main(append([]string{"-config", agent}, tc.args...), &out)
			if tc.fails != "" {
				must.ErrorContains(t, err, tc.fails)
				must.Eq(t, tc.usage, strings.Contains(err.Error(), ErrUsage.Error()))
				must.Eq(t, "", out.String())
				return
			}
			must.NoError(t, err)
			for _, text := range tc.says {
				must.StrContains(t, out.String(), text)
			}
			must.Eq(t, len(tc.args) == 1, strings.Contains(out.String(), "web"))
		})
	}
}
