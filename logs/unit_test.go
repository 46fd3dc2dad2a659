package logs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/hashicorp/go-hclog"
	"github.com/shoenig/test/must"
)

// fakeSystemd runs the log process within the test.
type fakeSystemd struct {
	t         *testing.T
	config    ServeConfig
	stop      func()
	restarted int
}

func (s *fakeSystemd) StartTransient(_ context.Context, name string, props []systemd.Property) error {
	must.EqOp(s.t, UnitName, name)
	names := make(map[string]any)
	for _, p := range props {
		names[p.Name] = p.Value.Value()
	}
	must.EqOp(s.t, any("always"), names["Restart"])
	s.start()
	return nil
}

func (s *fakeSystemd) RestartUnit(context.Context, string) error {
	if s.stop == nil {
		return errors.New("unit not found")
	}
	s.stop()
	s.restarted++
	s.start()
	return nil
}

func (s *fakeSystemd) start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := Serve(ctx, s.config); err != nil {
			s.t.Error(err)
		}
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	s.t.Cleanup(s.stop)
}

func TestEnsure(t *testing.T) {
	dir := t.TempDir()
	s := &fakeSystemd{t: t, config: ServeConfig{Socket: filepath.Join(dir, "run", "socket"), StateDir: filepath.Join(dir, "state"), Logger: hclog.NewNullLogger()}}
	ensure := func() (*Client, error) { return Ensure(soon(t), s, s.config.Socket, s.config.StateDir) }
	c, err := ensure()
	must.NoError(t, err)
	_, err = c.Tasks(soon(t))
	must.NoError(t, err)
	exe, err := os.Executable()
	must.NoError(t, err)
	target, err := os.Readlink(filepath.Join(s.config.StateDir, "nomad-driver-podman"))
	must.NoError(t, err)
	must.EqOp(t, exe, target)

	_, err = ensure()
	must.NoError(t, err)
	must.Zero(t, s.restarted)
	awaitNone(t, "net/http.(*persistConn)")

	s.stop() // it does not answer now
	_, err = ensure()
	must.NoError(t, err)
	must.EqOp(t, 1, s.restarted)
}
