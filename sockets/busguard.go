package sockets

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Bounds for what a bus, which for a user's manager is the host user's own process, may send on one connection. A
// connection carries a few calls.
const (
	maxBusMessage = 256 << 10 // bytes
	maxBusTraffic = 4 << 20   // bytes
	maxBusDepth   = 16        // nested containers and variants
)

// Of the wire format, https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol-messages.
const (
	busFixedHeader    = 16 // bytes up to the header fields, with the length of their array
	busMethodCall     = 1
	busFieldInterface = 2
	busFieldSignature = 8
)

// busGuard is a connection to a bus that lets only well-formed messages of bounded size through, and only replies,
// errors and signals. The D-Bus library trusts its bus: it allocates whatever length a message claims and panics at
// a NameLost without a name, either of which would end the driver with the tasks of all users.
type busGuard struct {
	net.Conn
	in            *bufio.Reader
	checked       []byte // may be read
	authenticated bool
	left          int // of maxBusTraffic
}

func newBusGuard(conn net.Conn) *busGuard {
	return &busGuard{Conn: conn, in: bufio.NewReader(conn), left: maxBusTraffic}
}

// Read implements io.Reader.
func (g *busGuard) Read(p []byte) (int, error) {
	for len(g.checked) == 0 {
		next := g.nextMessage
		if !g.authenticated {
			next = g.nextLine
		}
		var err error
		if g.checked, err = next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.checked)
	g.checked = g.checked[n:]
	return n, nil
}

// nextLine reads a line of the authentication dialogue, which the server ends with OK.
func (g *busGuard) nextLine() ([]byte, error) {
	line, err := g.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	g.authenticated = bytes.HasPrefix(line, []byte("OK"))
	return line, g.spend(len(line))
}

// nextMessage reads a message. It returns nothing for one that is not let through.
func (g *busGuard) nextMessage() ([]byte, error) {
	fixed, err := g.in.Peek(busFixedHeader)
	if err != nil {
		return nil, err
	}
	order, err := busByteOrder(fixed[0])
	if err != nil {
		return nil, err
	}
	fields, body := int64(order.Uint32(fixed[12:])), int64(order.Uint32(fixed[4:]))
	size := busFixedHeader + (fields+7)/8*8 + body
	if size > maxBusMessage {
		return nil, fmt.Errorf("D-Bus message of %d bytes: %w", size, ErrTooLarge)
	}
	if err := g.spend(int(size)); err != nil {
		return nil, err
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(g.in, message); err != nil {
		return nil, err
	}
	iface, err := checkBusMessage(message, int(size-body), order)
	if err != nil {
		return nil, fmt.Errorf("malformed D-Bus message: %w", err)
	}
	if message[1] == busMethodCall || iface == "org.freedesktop.DBus" {
		return nil, nil
	}
	return message, nil
}

func (g *busGuard) spend(n int) error {
	if g.left -= n; g.left < 0 {
		return fmt.Errorf("more than %d bytes from a D-Bus bus: %w", maxBusTraffic, ErrTooLarge)
	}
	return nil
}

func busByteOrder(mark byte) (binary.ByteOrder, error) {
	switch mark {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, errors.New("unknown byte order")
}

// checkBusMessage makes sure that all lengths in a message fit it, and returns its interface field.
func checkBusMessage(message []byte, bodyAt int, order binary.ByteOrder) (iface string, err error) {
	var signature string
	// Header fields are an array of structs of a byte and a variant. Positions count from the start of the message.
	r := &busReader{b: message[:bodyAt], pos: busFixedHeader, order: order}
	end := busFixedHeader + int(order.Uint32(message[12:]))
	for r.pos < end {
		if err := r.align(8); err != nil {
			return "", err
		}
		code, err := r.take(1)
		if err != nil {
			return "", err
		}
		valueAt := r.pos
		if err := r.skip("v", 0); err != nil {
			return "", err
		}
		value := r.b[valueAt:r.pos]
		switch code[0] {
		case busFieldInterface: // "s": signature, padding, length, text, NUL
			if len(value) > 1 && value[1] == 's' {
				iface = string(r.lastText)
			}
		case busFieldSignature:
			if len(value) > 1 && value[1] == 'g' {
				signature = string(r.lastText)
			}
		}
	}
	if r.pos != end {
		return "", errors.New("header fields longer than their array")
	}
	if err := checkBusSignature(signature); err != nil {
		return "", err
	}
	body := &busReader{b: message[bodyAt:], order: order}
	for signature != "" {
		var one string
		one, signature = splitSignature(signature)
		if err := body.skip(one, 0); err != nil {
			return "", err
		}
	}
	return iface, nil
}

// checkBusSignature refuses what is no signature. The library takes structs without fields, which the specification forbids:
// an array of them has no end, since none of its elements takes a byte.
func checkBusSignature(signature string) error {
	if strings.Contains(signature, "()") {
		return errors.New("a struct without fields")
	}
	_, err := dbus.ParseSignature(signature)
	return err
}

// busReader walks over marshalled values.
type busReader struct {
	b        []byte
	pos      int
	order    binary.ByteOrder
	lastText []byte // the last string or signature that was passed
}

var errBusShort = errors.New("a value reaches past the end")

func (r *busReader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.b)-r.pos {
		return nil, errBusShort
	}
	r.pos += n
	return r.b[r.pos-n : r.pos], nil
}

func (r *busReader) align(n int) error {
	_, err := r.take((n - r.pos%n) % n)
	return err
}

func (r *busReader) length() (int, error) {
	if err := r.align(4); err != nil {
		return 0, err
	}
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	n := r.order.Uint32(b)
	if n > maxBusMessage {
		return 0, errBusShort
	}
	return int(n), nil
}

// text passes n bytes and the NUL after them.
func (r *busReader) text(n int) error {
	b, err := r.take(n + 1)
	if err == nil {
		r.lastText = b[:n]
	}
	return err
}

// skip passes one value of a single complete type of a valid signature.
func (r *busReader) skip(signature string, depth int) error {
	if depth > maxBusDepth {
		return errors.New("nested too deeply")
	}
	if err := r.align(busAlignment(signature[0])); err != nil {
		return err
	}
	switch signature[0] {
	case 's', 'o':
		n, err := r.length()
		if err != nil {
			return err
		}
		return r.text(n)
	case 'g':
		return r.skipSignature()
	case 'v':
		if err := r.skipSignature(); err != nil {
			return err
		}
		inner := string(r.lastText)
		if err := checkBusSignature(inner); err != nil {
			return err
		}
		if one, rest := splitSignature(inner); one == "" || rest != "" {
			return errors.New("a variant is not of one type")
		}
		return r.skip(inner, depth+1)
	case 'a':
		return r.skipArray(signature[1:], depth)
	case '(', '{':
		for fields := signature[1 : len(signature)-1]; fields != ""; {
			var one string
			one, fields = splitSignature(fields)
			if err := r.skip(one, depth+1); err != nil {
				return err
			}
		}
		return nil
	case 'h':
		return errors.New("carries a file descriptor")
	case 'y':
		_, err := r.take(1)
		return err
	default: // numbers are as long as they are aligned
		_, err := r.take(busAlignment(signature[0]))
		return err
	}
}

func (r *busReader) skipSignature() error {
	n, err := r.take(1)
	if err != nil {
		return err
	}
	return r.text(int(n[0]))
}

func (r *busReader) skipArray(element string, depth int) error {
	n, err := r.length()
	if err != nil {
		return err
	}
	if err := r.align(busAlignment(element[0])); err != nil {
		return err
	}
	end := r.pos + n
	for r.pos < end {
		if err := r.skip(element, depth+1); err != nil {
			return err
		}
	}
	if r.pos != end {
		return errors.New("an array's last element reaches past it")
	}
	return nil
}

func busAlignment(kind byte) int {
	switch kind {
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 's', 'o', 'a', 'h':
		return 4
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 1
}

// splitSignature takes the first single complete type off a valid signature.
func splitSignature(signature string) (first, rest string) {
	depth := 0
	for i, kind := range signature {
		switch kind {
		case '(', '{':
			depth++
		case ')', '}':
			depth--
		}
		if kind != 'a' && depth == 0 {
			return signature[:i+1], signature[i+1:]
		}
	}
	return "", ""
}
