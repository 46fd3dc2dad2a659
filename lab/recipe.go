package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// recipe is everything that a cached part is made from. Its key is part of the
// part's name, so that a changed recipe is another part.
type recipe struct{ hash hash.Hash }

func newRecipe() *recipe { return &recipe{sha256.New()} }

// text adds a value. Both strings are delimited by their lengths.
func (r *recipe) text(label, value string) {
	for _, s := range []string{label, value} {
		// A hash never fails to write.
		_, _ = r.hash.Write([]byte(strconv.Itoa(len(s)) + ":" + s))
	}
}

// files adds files and directories of root: names, whether executable, contents.
func (r *recipe) files(root string, names ...string) error {
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			content, err := os.ReadFile(path) //nolint:gosec // the repository's own files
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			r.text(relative, strconv.FormatBool(info.Mode()&0o100 != 0))
			r.text("content", string(content))
			return nil
		})
		if err != nil {
			return fmt.Errorf("recipe: %w", err)
		}
	}
	return nil
}

func (r *recipe) key() string { return hex.EncodeToString(r.hash.Sum(nil))[:16] }
