package rootless

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/finding"
)

// maxFragments bounds how many files of a drop-in directory are read.
const maxFragments = 100

// settings is a configuration file.
type settings struct {
	path   string
	own    bool // it is in the user's home directory
	dropIn bool
}

// String is the path in messages: the user may have named the file.
func (s settings) String() string { return finding.Printable(s.path) }

// own is the path of a configuration file or directory of the user's.
func (u User) own(name string) string { return filepath.Join("/", u.Home, ".config/containers", name) }

// fault is what is wrong with a configuration file.
type fault struct {
	settings
	err error
}

func (f *fault) Error() string { return f.String() + ": " + finding.Printable(f.err.Error()) }
func (f *fault) Unwrap() error { return f.err }

// parse reads TOML into a value. A file that does not exist is fine, and says nothing. Any other error is a *fault.
func (u User) parse(s settings, into any) (toml.MetaData, error) {
	text, err := u.readSettings(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return toml.MetaData{}, nil
	}
	if err == nil && s.own && !u.IsRoot() {
		err = checkSettings(text)
	}
	var meta toml.MetaData
	if err == nil {
		meta, err = toml.Decode(string(text), into)
	}
	if err != nil {
		return toml.MetaData{}, &fault{s, err}
	}
	return meta, nil
}

// Bounds of what a user's own file may say before root reads it. The parser keeps each key with the names of all tables that it
// is in, and needs stack for each bracket: by a megabyte of them it would end this process.
const (
	maxOwnSettings = 16 << 10 // bytes, without comments
	maxNesting     = 200      // tables in each other
)

// checkSettings counts also what is in strings and does no harm there, so that it need not know where they end. Only a line
// that can be nothing but a comment, or within a string, is none of it. a.b.c is a key in a table in a table, and so is {a={b={c.
func checkSettings(text []byte) error {
	size, braces, dots := 0, 0, 0
	for line := range bytes.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) && !bytes.Contains(line, []byte(`"""`)) && !bytes.Contains(line, []byte("'''")) {
			continue
		}
		size += len(line)
		braces += bytes.Count(line, []byte("{"))
		dots = max(dots, bytes.Count(line, []byte("."))) // all that a dotted key can have
	}
	if size > maxOwnSettings || (braces+1)*(dots+1) > maxNesting {
		return fmt.Errorf("%w: it says more than is read of a user's own file (%d bytes without comments, at most %d tables in each other)",
			errUnseen, maxOwnSettings, maxNesting)
	}
	return nil
}

// exists tells whether there is a file at a path, for the user. The error is a *fault: nobody could look.
func (u User) exists(s settings) (bool, error) {
	_, err := look(u, func() (os.FileInfo, error) { return os.Stat(s.path) })
	if errors.Is(err, errUnseen) {
		return false, &fault{s, err}
	}
	return err == nil, nil
}

// fragments are the files of a drop-in directory, in the order in which they are read.
func (u User) fragments(dir string, own bool) ([]settings, error) {
	found, err := look(u, func() (_ []settings, err error) {
		d, err := openSettings(dir, unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		entries, err := d.ReadDir(maxFragments + 1)
		if len(entries) > maxFragments {
			return nil, fmt.Errorf("more than %d files", maxFragments)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		var found []settings
		for _, entry := range entries {
			if strings.HasSuffix(entry.Name(), ".conf") && !entry.IsDir() {
				found = append(found, settings{filepath.Join(dir, entry.Name()), own, true})
			}
		}
		return found, nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &fault{settings{path: dir, own: own}, err}
	}
	slices.SortFunc(found, func(a, b settings) int { return strings.Compare(a.path, b.path) })
	return found, nil
}

// broken is the finding that podman cannot read a file, or that nobody could look at it.
func (u User) broken(id string, err error) finding.Finding {
	if errors.Is(err, errUnseen) {
		return finding.Unknown(id, u.Name, err)
	}
	f := finding.Finding{ID: id, Subject: u.Name, Status: finding.Fail, Cause: err,
		Seen: err.Error(), Why: "podman refuses to work"}
	var at *fault
	if errors.As(err, &at) {
		f.Remedy.Advice = "mend the file, or move it aside if nothing of it is needed"
		if at.String() != at.path {
			return f // its name would be read otherwise than it is
		}
		move := []string{"mv", "--backup=numbered", "--", at.path, at.path + ".broken"}
		f.Remedy.Commands = []string{finding.Command(move...)}
		if at.own {
			f.Remedy.Commands = []string{u.command(move...)}
		}
	}
	return f
}
