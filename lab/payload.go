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

// payload is the second disk of a machine: a fixed size, this program from its first
// byte on, then a tar archive of the host's files for the guest, named as they are to
// lie there. Nothing reads it before the state is saved, and after the restore the
// program unpacks it. SSH would have to be encrypted by an emulated processor.
type payload struct {
	file   *os.File
	tar    *tar.Writer
	offset int64 // of the archive
}

// blockSize is what the payload's two parts are aligned to, and read by.
const blockSize = 1 << 20

// newPayload makes one with this program. close must follow.
func newPayload(path string) (_ *payload, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(self) //nolint:gosec // this program
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600) //nolint:gosec // the lab's own directory
	if err != nil {
		return nil, err
	}
	p := &payload{file: file, tar: tar.NewWriter(file)}
	_, err = file.Write(program)
	p.offset = (int64(len(program)) + blockSize - 1) / blockSize * blockSize
	if err == nil {
		_, err = file.Seek(p.offset, io.SeekStart)
	}
	if err := errors.Join(err, file.Truncate(payloadSize)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return p, nil
}

// bootstrap is the shell command in the guest that fetches the program and runs it.
func (p *payload) bootstrap(args []string) string {
	command := fmt.Sprintf("dd if=/dev/vdb of=/usr/local/bin/lab iflag=direct bs=%d count=%d status=none && exec lab inside enter",
		blockSize, p.offset/blockSize)
	for _, arg := range args {
		command += " " + quote(arg)
	}
	return command
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

// addIfPresent adds a file or directory, unless there is none.
func (p *payload) addIfPresent(name, path string) error {
	if err := p.add(name, path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
