package main

import (
	"archive/tar"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-podman/lab/books"
)

// The part of this program that runs in the guest: see payload.go for how it comes there.

// nomadAddress is the server's API in the guest.
const nomadAddress = "http://127.0.0.1:4646"

// inside runs a verb that the program on the host calls in the guest.
func inside(args []string) (int, error) {
	switch args[0] {
	case "enter":
		e, err := parseEnter(args[1:])
		if err != nil {
			return 2, err
		}
		return 0, e.run()
	case "books":
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		left, err := books.Check(ctx, nomadAddress, os.Stdout)
		if err == nil && left > 0 {
			return 1, fmt.Errorf("the books do not balance: %d left over", left)
		}
		return 0, err
	default:
		return 2, usageError("lab inside: unknown verb")
	}
}

// enter is the first thing in a restored machine.
type enter struct {
	clock  time.Duration // the host's time since the Unix epoch
	offset int64         // of the files on the second disk, bytes
	nomad  bool          // another Nomad is among the files
	driver string        // await this driver, unless ""
}

// args is the command line that parseEnter reads.
func (e enter) args() []string {
	return []string{
		"-clock", e.clock.String(), "-offset", fmt.Sprint(e.offset),
		"-nomad=" + fmt.Sprint(e.nomad), "-driver", e.driver,
	}
}

func parseEnter(args []string) (enter, error) {
	var e enter
	flags := flag.NewFlagSet("lab inside enter", flag.ContinueOnError)
	flags.DurationVar(&e.clock, "clock", 0, "")
	flags.Int64Var(&e.offset, "offset", 0, "")
	flags.BoolVar(&e.nomad, "nomad", false, "")
	flags.StringVar(&e.driver, "driver", "", "")
	return e, flags.Parse(args)
}

// run sets the clock, unpacks the host's files, starts Nomad and waits until it is ready.
func (e enter) run() error {
	now := unix.NsecToTimeval(e.clock.Nanoseconds())
	if err := unix.Settimeofday(&now); err != nil {
		return fmt.Errorf("setting the clock: %w", err)
	}
	units := []string{"nomad.service"}
	if e.nomad {
		// Another version, with a state of its own.
		if err := systemctl("stop", "nomad-server.service"); err != nil {
			return err
		}
		if err := emptyDir("/opt/nomad/server"); err != nil {
			return err
		}
		units = append(units, "nomad-server.service")
	}
	if err := unpack("/dev/vdb", e.offset, "/"); err != nil {
		return fmt.Errorf("unpacking the second disk: %w", err)
	}
	if err := systemctl("start", units...); err != nil {
		return err
	}
	return awaitNode(e.driver)
}

func systemctl(verb string, units ...string) error {
	cmd := exec.Command("systemctl", append([]string{verb}, units...)...) //nolint:gosec // own words
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("systemctl %s %v: %w", verb, units, err)
	}
	return nil
}

func emptyDir(dir string) error {
	return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
}

// unpack extracts the archive that begins at offset of a disk. The page cache of the
// disk may be as old as the saved state, so it is read around it.
func unpack(disk string, offset int64, root string) error {
	file, err := os.OpenFile(disk, os.O_RDONLY|unix.O_DIRECT, 0) //nolint:gosec // the guest's second disk
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	// open(2): buffers of O_DIRECT are aligned to blocks; a mapping is to pages.
	buffer, err := unix.Mmap(-1, 0, blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buffer) }()
	archive := tar.NewReader(&blockReader{file: file, offset: offset, buffer: buffer})
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(root, header.Name)                       //nolint:gosec // the host made the archive
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as in the repository
			return err
		}
		// A running program cannot be written to, only replaced.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, header.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(to, archive) //nolint:gosec // bounded by the disk
		if err := errors.Join(err, to.Close()); err != nil {
			return err
		}
	}
}

// blockReader reads a file in whole, aligned blocks.
type blockReader struct {
	file   io.ReaderAt
	offset int64  // of the next block; a multiple of blockSize
	buffer []byte // aligned, blockSize long
	rest   []byte // of the buffer, not read yet
}

func (r *blockReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		n, err := r.file.ReadAt(r.buffer, r.offset)
		if n == 0 {
			return 0, err
		}
		r.rest, r.offset = r.buffer[:n], r.offset+int64(n)
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
