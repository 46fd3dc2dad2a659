package images

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoenig/test/must"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/sockets"
)

// service is a podman that has some images, and a registry behind it.
type service struct {
	present map[string]bool
	pull    func(ctx context.Context, req sockets.PullRequest) error
	pulls   atomic.Int32
}

func (s *service) ImageInspect(_ context.Context, ref string) (*sockets.Image, error) {
	if s.present[ref] {
		return &sockets.Image{}, nil
	}
	return nil, fmt.Errorf("image %s: %w", ref, sockets.ErrNotFound)
}

func (s *service) Pull(ctx context.Context, req sockets.PullRequest, progress func(string)) (string, error) {
	s.pulls.Add(1)
	progress("Copying blob\n")
	if s.pull == nil {
		return "id", nil
	}
	return "id", s.pull(ctx, req)
}

func ensure(t *testing.T, service *service, task *config.Task) ([]string, error) {
	t.Helper()
	var said []string
	if task.PullTimeout == 0 {
		task.PullTimeout = time.Minute
	}
	err := new(Puller).Ensure(t.Context(), service, "socket", task, func(format string, args ...any) {
		said = append(said, fmt.Sprintf(format, args...))
	})
	return said, err
}

func TestEnsure(t *testing.T) {
	const redis = "docker.io/library/redis:latest"
	for name, test := range map[string]struct {
		task    config.Task
		present map[string]bool
		pulls   int
	}{
		"missing":         {config.Task{Image: "docker://redis"}, nil, 1},
		"present":         {config.Task{Image: "docker://redis"}, map[string]bool{redis: true}, 0},
		"forced":          {config.Task{Image: "docker://redis", ForcePull: true}, map[string]bool{redis: true}, 1},
		"forced, local":   {config.Task{Image: "localhost/a", ForcePull: true}, map[string]bool{"localhost/a": true}, 0},
		"short name goes": {config.Task{Image: "redis"}, map[string]bool{"redis": true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			service := &service{present: test.present}
			said, err := ensure(t, service, &test.task)
			must.NoError(t, err)
			must.Eq(t, test.pulls, int(service.pulls.Load()))
			must.Len(t, 2*test.pulls, said)
		})
	}
}

func TestEnsureFails(t *testing.T) {
	_, err := ensure(t, &service{}, &config.Task{Image: "localhost/a"})
	must.ErrorIs(t, err, ErrUnavailable)
	must.ErrorContains(t, err, "never pulled")

	refused := &service{pull: func(context.Context, sockets.PullRequest) error { return errors.New("manifest unknown") }}
	_, err = ensure(t, refused, &config.Task{Image: "a"})
	must.ErrorIs(t, err, ErrUnavailable)

	broken := &service{pull: func(context.Context, sockets.PullRequest) error { return errors.New("connection reset") }}
	_, err = ensure(t, broken, &config.Task{Image: "a"})
	must.ErrorContains(t, err, "connection reset")
	must.False(t, errors.Is(err, ErrUnavailable))

	slow := &service{pull: func(ctx context.Context, _ sockets.PullRequest) error { <-ctx.Done(); return ctx.Err() }}
	_, err = ensure(t, slow, &config.Task{Image: "a", PullTimeout: time.Millisecond})
	must.ErrorContains(t, err, "image_pull_timeout")
}

func TestCredentials(t *testing.T) {
	var sent []sockets.PullRequest
	service := &service{pull: func(_ context.Context, req sockets.PullRequest) error { sent = append(sent, req); return nil }}
	_, err := ensure(t, service, &config.Task{Image: "a"})
	must.NoError(t, err)
	_, err = ensure(t, service, &config.Task{Image: "a", Auth: config.Auth{Username: "u", Password: "p"}})
	must.NoError(t, err)
	must.Nil(t, sent[0].Auth)
	must.Eq(t, &sockets.Auth{Username: "u", Password: "p"}, sent[1].Auth)
}

// Tasks that start together share one pull.
func TestPullIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks = 5
		release := make(chan struct{})
		service := &service{pull: func(context.Context, sockets.PullRequest) error { <-release; return nil }}
		puller := &Puller{}
		errs := make(chan error, tasks)
		for range tasks {
			go func() {
				errs <- puller.Ensure(t.Context(), service, "socket", &config.Task{Image: "a", PullTimeout: time.Minute}, func(string, ...any) {})
			}()
		}
		synctest.Wait() // until all of them wait for the pull
		close(release)
		for range tasks {
			must.NoError(t, <-errs)
		}
		must.Eq(t, 1, int(service.pulls.Load()))
	})
}
