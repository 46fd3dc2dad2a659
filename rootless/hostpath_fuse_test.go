package rootless

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/shoenig/test/must"
	"golang.org/x/sys/unix"
)

// A user can mount a FUSE file system on a directory of theirs, and it says that everything there is root's.
func TestOpenHostPathOnFUSE(t *testing.T) {
	dir := hostTree(t)
	must.NoError(t, os.Mkdir(dir+"/mounted", 0o755))
	must.NoError(t, os.Chown(dir+"/mounted", int(nobody.UID), int(nobody.GID)))
	mountFUSE(t, dir+"/mounted", dir+"/closed/inner")
	target, err := os.Readlink(dir + "/mounted/link")
	must.NoError(t, err)
	must.Eq(t, dir+"/closed/inner", target)
	var st unix.Stat_t
	must.NoError(t, unix.Stat(dir+"/mounted", &st))
	must.Eq(t, 0, st.Uid)

	f, err := nobody.OpenHostPath(dir + "/mounted")
	must.NoError(t, err)
	must.NoError(t, f.Close())
	for _, user := range []User{nobody, rootUser} {
		_, err = user.OpenHostPath(dir + "/mounted/link")
		must.ErrorContains(t, err, "since the program behind the FUSE file system can change what is in "+dir+"/mounted")
	}
}

// mountFUSE mounts a file system in which every name is a link of root's to the target, as fusermount3(1) would for nobody.
func mountFUSE(t *testing.T, dir, target string) {
	t.Helper()
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0) // os.File would poll it, and it is not ready before the mount
	if err != nil {
		t.Skip("needs FUSE: ", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=65534,group_id=65534,allow_other", device)
	if err := unix.Mount("test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Skip("needs to mount FUSE: ", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveFUSE(device, target)
	}()
	t.Cleanup(func() {
		must.NoError(t, unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH))
		<-ended
		must.NoError(t, unix.Close(device))
	})
}

// serveFUSE answers the kernel until the file system is unmounted (linux/fuse.h, version 7.22).
func serveFUSE(device int, target string) {
	type attributes struct {
		Inode                                       uint64
		_                                           [5]uint64 // size, blocks, times
		_                                           [3]uint32 // of times
		Mode, Links, UID, GID, Device, BlockSize, _ uint32
	}
	const directory, link = 1, 2
	of := func(inode uint64) attributes {
		mode := uint32(unix.S_IFDIR | 0o755)
		if inode == link {
			mode = unix.S_IFLNK | 0o777
		}
		return attributes{Inode: inode, Mode: mode, Links: 1}
	}
	request := make([]byte, 64<<10)
	for {
		n, err := unix.Read(device, request)
		if err == unix.EINTR || err == unix.ENOENT {
			continue // a request that is not waited for any more
		}
		if err != nil || n < 40 {
			return
		}
		opcode, unique, node := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[8:]), binary.NativeEndian.Uint64(request[16:])
		var answer any
		failed := int32(0)
		switch opcode {
		case 1: // LOOKUP
			answer = struct {
				Node uint64
				_    [4]uint64
				attributes
			}{Node: link, attributes: of(link)}
		case 2, 42: // FORGET, BATCH_FORGET
			continue
		case 3: // GETATTR
			answer = struct {
				_ [2]uint64
				attributes
			}{attributes: of(node)}
		case 5: // READLINK
			answer = []byte(target)
		case 17: // STATFS
			answer = [10]uint64{}
		case 26: // INIT
			answer = [6]uint32{7, 22, 0, 0, 0, 4096}
		default:
			failed = -int32(unix.ENOSYS)
		}
		var body, reply bytes.Buffer
		if answer != nil {
			_ = binary.Write(&body, binary.NativeEndian, answer)
		}
		_ = binary.Write(&reply, binary.NativeEndian, struct {
			Length uint32
			Error  int32
			Unique uint64
		}{uint32(16 + body.Len()), failed, unique})
		_, _ = unix.Write(device, append(reply.Bytes(), body.Bytes()...))
	}
}
