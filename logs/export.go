package logs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// cursor names an entry of the journal (sd_journal_get_cursor(3)): text, filled up with NULs. systemd's are at most
// 146 bytes long.
type cursor [160]byte

func (c cursor) String() string { return string(bytes.TrimRight(c[:], "\x00")) }

// entry is what is needed of a journal entry that conmon wrote.
type entry struct {
	cursor cursor
	stream stream
	text   []byte
}

// maxText bounds the text of an entry, bytes: more than twice what conmon writes at a time. Others can write entries
// of any length, and what is longer is left out.
const maxText = 32 << 10

// readEntry reads an entry in the Journal Export Format (https://systemd.io/JOURNAL_EXPORT_FORMATS), with
// the fields MESSAGE and PRIORITY. io.EOF is the end between two entries.
//
// conmon's entries (ctr_logging.c, write_journald) have the newline of a line that is complete in MESSAGE, and the
// priorities info for stdout and err for stderr. From 2.2.0 on, a line that begins with "<N>" has the priority N instead:
// then err and what is worse counts as stderr.
func readEntry(r *bufio.Reader) (e entry, err error) {
	if _, err := r.Peek(1); err != nil {
		return e, err
	}
	defer func() {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}()
	for {
		line, err := readLine(r)
		if err != nil || len(line) == 0 {
			return e, err
		}
		name, value, isText := bytes.Cut(line, []byte{'='})
		field := string(name)
		if !isText {
			if value, err = readBinary(r); err != nil {
				return e, err
			}
		}
		switch field {
		case "__CURSOR":
			if copy(e.cursor[:], value) < len(value) {
				return e, fmt.Errorf("the cursor of a journal entry is too long (%d bytes)", len(value))
			}
		case "PRIORITY":
			const err = '3' // syslog(3)
			if len(value) == 1 && value[0] <= err {
				e.stream = stderr
			}
		case "MESSAGE":
			e.text = bytes.Clone(value)
		}
	}
}

// readLine reads a line without its newline, valid until the next read; of one that is too long, what it begins with.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	name, _, _ := bytes.Cut(line, []byte{'='})
	start := bytes.Clone(append(name, '='))
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
	}
	return start, err
}

// readBinary reads the length, the bytes and the newline of a field that is not plain text. One that is too long
// becomes empty.
func readBinary(r *bufio.Reader) ([]byte, error) {
	var size [8]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(size[:])
	var value []byte
	if n <= maxText {
		value = make([]byte, n)
		if _, err := io.ReadFull(r, value); err != nil {
			return nil, err
		}
	} else if _, err := io.CopyN(io.Discard, r, int64(min(n, math.MaxInt64))); err != nil { //nolint:gosec // it fits
		return nil, err
	}
	if newline, err := r.ReadByte(); err != nil || newline != '\n' {
		return nil, errors.Join(errors.New("a journal entry is malformed"), err)
	}
	return value, nil
}
