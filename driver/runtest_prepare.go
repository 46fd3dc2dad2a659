package driver

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/client/allocdir"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/logs"
	"nomad-driver-podman/sockets"
)

// configure makes the driver, without what one does in the background for its node.
func (r *runTest) configure(ctx context.Context, own *config.Plugin) (err error) {
	if r.dir, err = os.MkdirTemp("", "nomad-run-test-"); err != nil {
		return err
	}
	r.finally(func(context.Context) error { return os.RemoveAll(r.dir) })
	own.StateDir = filepath.Join(r.dir, "state")
	if os.Geteuid() != 0 {
		own.Rootless.Linger = false // nobody would note that it was not on
	}
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	r.finally(func(context.Context) error { end(); return nil })
	logger := hclog.NewNullLogger()
	if r.driver, err = New(lifetime, logger, r.version); err != nil {
		return err
	}
	if r.node, err = newNode(own, logger, func() {}); err != nil {
		return err
	}
	r.finally(func(context.Context) error { r.node.close(logger); return nil })
	r.driver.node = r.node
	return nil
}

// serveLogs runs a log process in this one. The node's is not used: it may be another binary, and would be restarted with
// this one for the test, and then again by its driver.
func (r *runTest) serveLogs(ctx context.Context) error {
	if r.node.config.DisableLogs {
		return nil
	}
	serve := logs.ServeConfig{
		Socket: filepath.Join(r.dir, "logs", "control.sock"), StateDir: filepath.Join(r.node.config.StateDir, "logs"),
		Logger: hclog.NewNullLogger(),
	}
	r.node.logs = logs.NewClient(serve.Socket)
	r.node.ensureLogs = func(context.Context) error { return nil }
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	serving, stop := context.WithCancelCause(ctx)
	go func() {
		err := logs.Serve(lifetime, serve)
		stop(err)
		ended <- err
	}()
	r.finally(func(context.Context) error {
		end()
		return <-ended
	})
	if _, err := r.node.logs.Tasks(serving); err != nil {
		return cmp.Or(context.Cause(serving), err)
	}
	return nil
}

func (r *runTest) activate(ctx context.Context) (err error) {
	if r.endpoint, err = r.node.route(&config.Task{Socket: r.socket}, ""); err != nil {
		return err
	}
	if err := r.endpoint.CheckActivatable(ctx); err != nil {
		return err
	}
	unhold := r.endpoint.Hold()
	r.finally(func(ctx context.Context) error {
		unhold()
		return releaseEndpoint(ctx, r.endpoint)
	})
	r.client, err = r.endpoint.Activate(ctx)
	return err
}

// A container's monitor ends some time after it, and until then the endpoint looks as if somebody had containers there.
const (
	releasePatience = 30 * time.Second
	releasePace     = 500 * time.Millisecond
)

// releaseEndpoint ends what was started for the endpoint, unless somebody else has come to need it.
func releaseEndpoint(ctx context.Context, endpoint *sockets.Endpoint) error {
	others := time.After(releasePatience)
	for {
		err := endpoint.Release(ctx)
		if !errors.Is(err, sockets.ErrInUse) {
			return err
		}
		select {
		case <-time.After(releasePace):
		case <-others:
			return nil
		}
	}
}

// importImage makes an image with nothing but this program, which is static.
func (r *runTest) importImage(ctx context.Context) error {
	r.image = "localhost/nomad-run-test-" + uuid.Short() + ":latest"
	// By name: an import whose answer was lost may still have made it.
	r.finally(func(ctx context.Context) error { return r.client.RemoveImage(ctx, r.image) })
	archive, w := io.Pipe()
	go func() { w.CloseWithError(writeRoot(w)) }()
	_, err := r.client.ImportImage(ctx, r.image, archive)
	return errors.Join(err, archive.Close())
}

// runTestProgram is the path of this program in the image.
const runTestProgram = "/nomad-driver-podman"

// writeRoot writes the image's root directory as a tar archive.
func writeRoot(w io.Writer) error {
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer func() { _ = program.Close() }()
	info, err := program.Stat()
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	if err := archive.WriteHeader(&tar.Header{Name: runTestProgram[1:], Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, program); err != nil {
		return err
	}
	return archive.Close()
}

// makeDirectories makes what Nomad makes before it starts a task.
func (r *runTest) makeDirectories(context.Context) error {
	allocID := uuid.Generate()
	r.cfg = &drivers.TaskConfig{
		ID: allocID + "/" + runTestName, AllocID: allocID, Name: runTestName, JobName: runTestName, NodeID: runTestName,
		Namespace: structs.DefaultNamespace,
		Env:       map[string]string{allocDirEnv: "/alloc", localDirEnv: "/local", secretsDirEnv: "/secrets"},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{
				Cpu:    structs.AllocatedCpuResources{CpuShares: 100},
				Memory: structs.AllocatedMemoryResources{MemoryMB: runTestMemory},
			},
			LinuxResources: &drivers.LinuxResources{},
		},
	}
	alloc := allocdir.NewAllocDir(hclog.NewNullLogger(), r.dir, allocID)
	r.cfg.AllocDir = alloc.AllocDir
	r.finally(func(context.Context) error { return alloc.Destroy() })
	if err := errors.Join(alloc.Build(), alloc.NewTaskDir(runTestName).Build(false, nil)); err != nil {
		return err
	}
	dirs := r.cfg.TaskDir()
	r.secret = uuid.Generate()
	secret := filepath.Join(dirs.SecretsDir, secretFile)
	if err := os.WriteFile(secret, []byte(r.secret), 0o600); err != nil {
		return err
	}
	// Readable to all: not every kernel can show a rootless task root's own.
	if err := os.Chmod(secret, 0o644); err != nil { //nolint:gosec // it is none
		return err
	}
	if r.node.config.DisableLogs {
		return nil
	}
	for _, log := range []struct {
		name   string
		path   *string
		stream **stream
	}{{"stdout", &r.cfg.StdoutPath, &r.stdout}, {"stderr", &r.cfg.StderrPath, &r.stderr}} {
		*log.path = filepath.Join(dirs.LogDir, "."+runTestName+"."+log.name+".fifo")
		stream, err := openStream(*log.path)
		if err != nil {
			return err
		}
		*log.stream = stream
		r.finally(func(context.Context) error { return stream.file.Close() })
	}
	return nil
}

// stream is what comes out of one of Nomad's FIFOs.
type stream struct {
	file *os.File
	read chan struct{} // closed at the end
	text []byte        // from then on
}

// maxStream bounds what is kept of a stream, bytes: the endpoint may run something else than what it was asked for.
const maxStream = 4 << 10

// openStream makes a FIFO and reads it, as Nomad's logmon does.
func openStream(path string) (*stream, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	// For writing, too: so it does not end before somebody has come to write.
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &stream{file: file, read: make(chan struct{})}
	go func() {
		defer close(s.read)
		s.text, _ = io.ReadAll(io.LimitReader(file, maxStream)) // until its end is called for
		_, _ = io.Copy(io.Discard, file)
	}()
	return s, nil
}

// end returns what has come by now.
func (s *stream) end() string {
	_ = s.file.SetReadDeadline(time.Now()) // fails when it is closed
	<-s.read
	return string(s.text)
}
