package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// payload is the second disk of a machine: a fixed size, and what the host has for
// the guest as a tar archive from its first byte on. Nothing reads it before the
// state is saved, and after the restore guest/enter.sh does, past the page cache.
// SSH would have to be encrypted by an emulated processor.
type payload struct {
	file *os.File
	tar  *tar.Writer
}

// newPayload makes an empty one. close must follow.
func newPayload(path string) (*payload, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // the lab's own directory
	if err != nil {
		return nil, err
	}
	p := &payload{file, tar.NewWriter(file)}
	if err := file.Truncate(payloadSize); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return p, nil
}

func (p *payload) close() error {
	err := p.tar.Close()
	if end, seekErr := p.file.Seek(0, io.SeekCurrent); seekErr == nil && end > payloadSize {
		err = errors.Join(err, fmt.Errorf("%d bytes for the machine, more than its second disk's %d", end, int64(payloadSize)))
	}
	return errors.Join(err, p.file.Close())
}

// add adds a file, or a directory with all below it, under a name. What is neither
// is left out. A missing one is fs.ErrNotExist.
func (p *payload) add(name, path string) error {
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		below, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		header := &tar.Header{
			Name: filepath.Join(name, below), Size: info.Size(),
			Mode: int64(info.Mode().Perm()), ModTime: info.ModTime(),
		}
		if err := p.tar.WriteHeader(header); err != nil {
			return err
		}
		source, err := os.Open(file) //nolint:gosec // the user's own files
		if err != nil {
			return err
		}
		_, err = io.Copy(p.tar, source)
		return errors.Join(err, source.Close())
	})
}
