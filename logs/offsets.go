package logs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// mark is a place in a log from which carrying can resume: in a log file Offset and State, in the journal Cursor.
type mark struct {
	Offset int64
	State  lineState
	Cursor cursor
}

// position is how far a log has been carried. It is what survives the process.
type position struct {
	// Inode is the log file's, so that another file in its place is read from its start.
	Inode uint64
	// Read is the place up to which all text lies, or lay, in the FIFOs; of the text behind it,
	// Sent bytes do. A process that got its FIFOs back resumes there.
	Read mark
	Sent [streams]uint32
	// Done is the place up to which logmon has read all text from the FIFOs. A process that did not
	// get them back resumes there, since what lay in them may be lost. Whatever lies before it
	// may be dropped from the file.
	Done mark
	// Cut is how many bytes are being dropped from the file's start, 0 most of the time. The process
	// can be killed between dropping them and saving the offsets that follow from it: that is told by
	// Behind, the SHA-256 of the Window bytes behind the cut, which by then start the file.
	Cut    int64
	Window int64
	Behind [sha256.Size]byte
	// Dropped is how many bytes were given up because the backlog was too long, and Told, of how many of them the
	// driver knows. Gap says that the last of them lay before Read, and that this is still to be said there; MidLine,
	// which streams were within a line then.
	Dropped int64
	Told    int64
	Gap     bool
	MidLine [streams]bool
}

// positionMagic starts a saved position and names the version of its layout. One of another version counts as none: the
// log is carried from its start.
const positionMagic = "nplogs2\n"

// saveTo overwrites the position in f. It fits a page: a process that is killed leaves the old
// one or the new one. Nothing is synced, since containers do not survive the kernel either.
func (p *position) saveTo(f io.WriterAt) error {
	b := append(make([]byte, 0, 1024), positionMagic...)
	b, err := binary.Append(b, binary.LittleEndian, p)
	if err != nil {
		return err
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	_, err = f.WriteAt(b, 0)
	return err
}

// errNoPosition says that no (whole) position is saved.
var errNoPosition = errors.New("no position saved")

// loadPosition reads what saveTo wrote.
func loadPosition(f io.ReaderAt) (position, error) {
	var p position
	b := make([]byte, len(positionMagic)+binary.Size(p)+crc32.Size)
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return position{}, err
	}
	body, sum := b[:len(b)-crc32.Size], b[len(b)-crc32.Size:]
	if !bytes.HasPrefix(body, []byte(positionMagic)) || binary.LittleEndian.Uint32(sum) != crc32.ChecksumIEEE(body) {
		return position{}, errNoPosition
	}
	_, err := binary.Decode(body[len(positionMagic):], binary.LittleEndian, &p)
	return p, err
}

// settle completes or forgets a cut during which the process was killed, and starts over when the
// saved position cannot be one of this file.
func (p *position) settle(log *os.File) error {
	inode, size, err := identify(log)
	if err != nil {
		return err
	}
	if p.Cut > 0 {
		start, err := hashAt(log, 0, p.Window)
		if err != nil {
			return err
		}
		if start == p.Behind {
			p.shift(p.Cut)
		}
		p.Cut = 0
	}
	if p.Inode != inode || p.Read.Offset > size {
		*p = position{Dropped: p.Dropped, Told: p.Told}
	}
	p.Inode = inode
	return nil
}

// shift follows the removal of n bytes from the file's start.
func (p *position) shift(n int64) {
	p.Read.Offset -= n
	p.Done.Offset -= n
}

// identify returns a file's inode and size.
func identify(f *os.File) (inode uint64, size int64, err error) {
	var st unix.Stat_t
	err = control(f, func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Ino, st.Size, err
}

// control runs a system call on f's descriptor.
func control(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	outer := conn.Control(func(fd uintptr) { err = call(int(fd)) }) //nolint:gosec // a descriptor
	if err := errors.Join(outer, err); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

// hashAt returns the SHA-256 of the n bytes at offset off, or of those that there are.
func hashAt(f io.ReaderAt, off, n int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, off, n)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
