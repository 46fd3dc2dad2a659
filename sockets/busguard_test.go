package sockets

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
	"nomad-driver-podman/rootless"
)

// message encodes a message as a bus would send it.
func message(t testing.TB, kind dbus.Type, headers map[dbus.HeaderField]any, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: kind, Headers: map[dbus.HeaderField]dbus.Variant{}, Body: body}
	for field, value := range headers {
		m.Headers[field] = dbus.MakeVariant(value)
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var b bytes.Buffer
	must.NoError(t, m.EncodeTo(&b, binary.LittleEndian))
	encoded := b.Bytes()
	binary.LittleEndian.PutUint32(encoded[8:], 1) // the serial, which only a connection gives
	return encoded
}

func signal(t testing.TB, iface, member string, body ...any) []byte {
	t.Helper()
	return message(t, dbus.TypeSignal, map[dbus.HeaderField]any{
		dbus.FieldPath: dbus.ObjectPath("/a"), dbus.FieldInterface: iface, dbus.FieldMember: member, dbus.FieldSender: "org.freedesktop.DBus",
	}, body...)
}

// sender is a connection that takes everything and, whatever that is, sends the same.
type sender struct {
	net.Conn
	sends io.Reader
}

func (s sender) Read(p []byte) (int, error) { return s.sends.Read(p) }
func (sender) Write(p []byte) (int, error)  { return len(p), nil }
func (sender) CloseWrite() error            { return nil }
func (sender) Close() error                 { return nil }

// guarded is what gets through of what a bus sends after authentication.
func guarded(sent ...[]byte) ([]byte, error) {
	return guardedFrom(bytes.NewReader(bytes.Join(sent, nil)))
}

func guardedFrom(sent io.Reader) ([]byte, error) {
	const ok = "OK 1234\r\n"
	got, err := io.ReadAll(newBusGuard(sender{sends: io.MultiReader(strings.NewReader(ok), sent)}))
	return bytes.TrimPrefix(got, []byte(ok)), err
}

func TestBusGuardLetsMessagesThrough(t *testing.T) {
	type pair struct {
		Name  string
		Value dbus.Variant
	}
	reply := message(t, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(7), dbus.FieldSender: ":1.2"},
		"text", dbus.ObjectPath("/a/b"), uint32(3), true, byte(1), int64(-1), 1.5, int16(2),
		[]string{"a", "bcd"}, []int64{}, map[string]dbus.Variant{"x": dbus.MakeVariant([]string{"y"}), "z": dbus.MakeVariant(uint64(1))},
		[]pair{{"n", dbus.MakeVariant("v")}}, dbus.MakeVariant(dbus.MakeVariant("nested")), dbus.SignatureOf("a"), [][]byte{{1}, {2, 3}})
	failure := message(t, dbus.TypeError, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(7), dbus.FieldErrorName: "org.x.Failed"}, "why")
	removed := signal(t, "org.freedesktop.systemd1.Manager", "JobRemoved", uint32(1), dbus.ObjectPath("/job/1"), "a.service", "done")
	empty := message(t, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(8)})

	want := bytes.Join([][]byte{reply, failure, removed, empty}, nil)
	call := message(t, dbus.TypeMethodCall, map[dbus.HeaderField]any{dbus.FieldPath: dbus.ObjectPath("/"), dbus.FieldMember: "Ping"})
	got, err := guarded(reply, call, failure, signal(t, "org.freedesktop.DBus", "NameLost"), removed, empty)
	must.NoError(t, err)
	must.Eq(t, want, got)
	decoded, err := dbus.DecodeMessage(bytes.NewReader(got))
	must.NoError(t, err)
	must.Len(t, 15, decoded.Body)
}

// swapped is a message with another signature of the same length in place of one.
func swapped(message []byte, from, to string) []byte {
	with := func(signature string) []byte { return append([]byte{byte(len(signature))}, signature+"\x00"...) }
	return bytes.Replace(message, with(from), with(to), 1)
}

func TestBusGuardRefusesMalformed(t *testing.T) {
	good := signal(t, "org.x", "Y", []string{"abc"}, dbus.MakeVariant("v"))
	cut := func(at int, value uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], value)
		return b
	}
	bodyAt := len(good) - int(binary.LittleEndian.Uint32(good[4:]))
	for name, sent := range map[string][]byte{
		"byte order":         append([]byte("x"), good[1:]...),
		"huge body":          cut(4, 1<<31),
		"sum over 32 bits":   append(cut(4, 1<<32-16), make([]byte, 1000)...),
		"huge header fields": cut(12, 1<<32-8),
		"long header fields": cut(12, binary.LittleEndian.Uint32(good[12:])+1),
		"huge array":         cut(bodyAt, 1<<30),
		"huge string":        cut(bodyAt+4, 1<<32-1),
		"deep":               signal(t, "org.x", "Y", nest(maxBusDepth+2)),
		"descriptor":         swapped(signal(t, "org.x", "Y", uint32(1)), "u", "h"),
		// Eight bytes of elements that take none.
		"empty structs":              swapped(signal(t, "org.x", "Y", []byte("12345678"), "x"), "ays", "a()"),
		"empty structs in structs":   swapped(signal(t, "org.x", "Y", []struct{ A, B byte }{{1, 2}, {3, 4}}), "a(yy)", "a(())"),
		"empty structs in a variant": swapped(signal(t, "org.x", "Y", dbus.MakeVariant([]struct{ A, B byte }{{1, 2}, {3, 4}})), "a(yy)", "a(())"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := guarded(sent)
			must.Error(t, err)
			must.SliceEmpty(t, got)
		})
	}
	// Whatever a bus sends, the guard ends and what it lets through decodes.
	for i := range good {
		for _, flip := range []byte{0xff, 0x01, 0x80} {
			b := bytes.Clone(good)
			b[i] ^= flip
			if got, _ := guarded(b); len(got) > 0 {
				_, _ = dbus.DecodeMessage(bytes.NewReader(got))
			}
		}
	}
	many := bytes.Repeat(signal(t, "org.x", "Y", strings.Repeat("x", 100<<10)), 50)
	_, err := guarded(many)
	must.ErrorIs(t, err, ErrTooLarge)
}

// What gets through the guard, the library decodes and stores without a panic, and it is no message that the guard has to keep
// back. No message keeps the guard busy for ever, and it does not matter in which pieces one comes.
func FuzzBusGuard(f *testing.F) {
	f.Add(signal(f, "org.x", "Y", []string{"abc"}, dbus.MakeVariant("v")))
	f.Add(swapped(signal(f, "org.x", "Y", []byte("12345678"), "x"), "ays", "a()"))
	f.Add(message(f, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(7)}, map[string]dbus.Variant{"x": dbus.MakeVariant(int64(1))}, 1.5))
	f.Add(message(f, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(7)}, []struct {
		ID   string
		Path dbus.ObjectPath
	}{{"1", "/a"}}))
	f.Add(bytes.Join([][]byte{
		signal(f, "org.freedesktop.systemd1.Manager", "JobRemoved", uint32(1), dbus.ObjectPath("/job/1"), "a.service", "done"),
		signal(f, "org.freedesktop.DBus", "NameLost"),
		message(f, dbus.TypeError, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(7), dbus.FieldErrorName: "org.x.Failed"}, "why"),
	}, nil))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var got []byte
		fuzz.Cheap(t, len(sent), 16, func() { got, _ = guarded(sent) })
		must.LessEq(t, len(sent), len(got))
		bytewise, _ := guardedFrom(iotest.OneByteReader(bytes.NewReader(sent)))
		must.True(t, bytes.Equal(got, bytewise))
		fuzz.Cheap(t, len(got), perByte, func() {
			for in := bytes.NewReader(got); in.Len() > 0; {
				received, err := dbus.DecodeMessage(in)
				if err != nil {
					return
				}
				must.NotEq(t, dbus.TypeMethodCall, received.Type)
				must.NotEq(t, any("org.freedesktop.DBus"), received.Headers[dbus.FieldInterface].Value())
				storeReply(received.Body)
			}
		})
	})
}

// storeReply stores the body of a reply as each type that is asked for anywhere, and that of a signal that a job has ended.
func storeReply(body []any) {
	for _, reply := range []any{
		new(string), new(dbus.ObjectPath), new(bool), new(dbus.Variant), new(map[string]dbus.Variant), new([][]any),
		new([]struct {
			ID   string
			Path dbus.ObjectPath
		}),
	} {
		_ = dbus.Store(body, reply)
	}
	_ = dbus.Store(body, new(uint32), new(dbus.ObjectPath), new(string), new(string))
}

func nest(depth int) dbus.Variant {
	v := dbus.MakeVariant("x")
	for range depth {
		v = dbus.MakeVariant(v)
	}
	return v
}

// bus accepts connections and plays a bus that authenticates everybody and then sends what it is given.
func bus(t *testing.T, then ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", path)
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, listener.Close()) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go func() {
				buffer := make([]byte, 4096)
				for _, line := range []string{"REJECTED EXTERNAL\r\n", "OK 1234\r\n"} {
					n := 0
					for n < 2 || !bytes.HasSuffix(buffer[:n], []byte("\r\n")) {
						m, err := conn.Read(buffer[n:])
						if err != nil {
							return
						}
						n += m
					}
					_, _ = fmt.Fprint(conn, line)
				}
				for _, b := range then {
					_, _ = conn.Write(b)
				}
			}()
		}
	}()
	return path
}

func TestConnectToHostileBus(t *testing.T) {
	self, err := rootless.Self()
	must.NoError(t, err)
	hello := message(t, dbus.TypeMethodReply, map[dbus.HeaderField]any{dbus.FieldReplySerial: uint32(1)}, ":1.1")
	for name, sent := range map[string][][]byte{
		"silent":            nil,
		"silent afterwards": {hello},
		"endless line":      {bytes.Repeat([]byte("x"), 1<<20)},
		"name lost":         {signal(t, "org.freedesktop.DBus", "NameLost")},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			s, err := connect(ctx, self, bus(t, sent...), "host user x")
			if err == nil {
				err = s.StartUnit(ctx, socketUnit)
				s.Close()
			}
			must.Error(t, err)
			must.ErrorContains(t, err, "host user x")
		})
	}
	_, err = connect(t.Context(), self, "/nowhere/bus", "host user x")
	must.ErrorIs(t, err, os.ErrNotExist)
}
