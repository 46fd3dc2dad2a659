package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

func TestPayload(t *testing.T) {
	source, disk, root := t.TempDir(), filepath.Join(t.TempDir(), "disk"), t.TempDir()
	must.NoError(t, os.MkdirAll(filepath.Join(source, "jobs", "deep"), 0o700))
	must.NoError(t, os.WriteFile(filepath.Join(source, "jobs", "redis.hcl"), []byte("job"), 0o600))
	must.NoError(t, os.WriteFile(filepath.Join(source, "jobs", "deep", "large"), make([]byte, 3*blockSize+1), 0o600))
	must.NoError(t, os.WriteFile(filepath.Join(source, "plugin"), []byte("program"), 0o700)) //nolint:gosec // a program
	must.NoError(t, os.WriteFile(filepath.Join(root, "plugin"), []byte("the one before"), 0o600))

	p, err := newPayload(disk)
	must.NoError(t, err)
	must.NoError(t, p.add("lab/jobs", filepath.Join(source, "jobs")))
	must.NoError(t, p.add("plugin", filepath.Join(source, "plugin")))
	must.NoError(t, p.addIfPresent("missing", filepath.Join(source, "missing")))
	must.ErrorIs(t, p.add("missing", filepath.Join(source, "missing")), os.ErrNotExist)
	must.NoError(t, p.close())

	info, err := os.Stat(disk)
	must.NoError(t, err)
	must.Eq(t, payloadSize, info.Size())

	if err := unpack(disk, p.offset, root); err != nil {
		t.Skipf("this file system has no O_DIRECT: %v", err)
	}
	large, err := os.Stat(filepath.Join(root, "lab/jobs/deep/large"))
	must.NoError(t, err)
	must.Eq(t, 3*blockSize+1, large.Size())
	plugin, err := os.ReadFile(filepath.Join(root, "plugin"))
	must.NoError(t, err)
	must.Eq(t, "program", string(plugin))
	info, err = os.Stat(filepath.Join(root, "plugin"))
	must.NoError(t, err)
	must.Eq(t, os.FileMode(0o700), info.Mode())
}

func TestPayloadTooLarge(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge")
	must.NoError(t, os.WriteFile(huge, nil, 0o600))
	must.NoError(t, os.Truncate(huge, 1<<20))
	p, err := newPayload(filepath.Join(dir, "disk"))
	must.NoError(t, err)
	_, err = p.file.Seek(payloadSize, 0)
	must.NoError(t, err)
	must.NoError(t, p.add("huge", huge))
	must.ErrorContains(t, p.close(), "second disk")
}

func TestEnterArgs(t *testing.T) {
	want := enter{clock: time.Duration(1795512240123456789), offset: 7 << 20, nomad: true, driver: "podman"}
	got, err := parseEnter(want.args())
	must.NoError(t, err)
	must.True(t, want == got, must.Sprintf("%+v", got))
}

func TestBinaryWords(t *testing.T) {
	b := binaryRun{file: "/tmp/e2e.test", args: []string{"-test.testlogfile=/tmp/x", "-test.run=Redis"}}
	must.Eq(t, []string{"/opt/lab/e2e.test", "-test.run=Redis"}, b.words())
}
