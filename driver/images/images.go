// Package images brings a task's image to its endpoint.
package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/sockets"
)

// Client is what of podman's API this package needs.
type Client interface {
	ImageInspect(ctx context.Context, ref string) (*sockets.Image, error)
	Pull(ctx context.Context, req sockets.PullRequest, progress func(line string)) (string, error)
}

// ErrUnavailable marks an image that its registry does not have or does not give us: a retry would not help.
var ErrUnavailable = errors.New("the registry does not provide the image")

// Puller pulls images, each at most once at a time per endpoint.
type Puller struct {
	group singleflight.Group
}

// progressInterval is the least time between two progress events of one pull.
const progressInterval = 10 * time.Second

// Ensure makes the task's image present on the endpoint and tells its progress to say. The endpoint's name keeps
// pulls of different endpoints apart.
func (p *Puller) Ensure(ctx context.Context, client Client, endpoint string, task *config.Task, say func(format string, args ...any)) error {
	reference := task.ImageReference()
	local := strings.HasPrefix(reference, "localhost/")
	if !task.ForcePull || local {
		switch _, err := client.ImageInspect(ctx, reference); {
		case err == nil:
			return nil
		case !errors.Is(err, sockets.ErrNotFound):
			return fmt.Errorf("looking for image %s: %w", reference, err)
		case local:
			return fmt.Errorf("image %s is not there, and localhost/ images are never pulled; build or load it as the host user: %w", reference, ErrUnavailable)
		}
	}
	// Credentials are part of the key: a task must not get an image that only another task may pull.
	key := strings.Join([]string{endpoint, reference, task.Auth.Username, task.Auth.Password}, "\x00")
	for {
		pulled := p.group.DoChan(key, func() (any, error) {
			return nil, pull(ctx, client, reference, task, say)
		})
		select {
		case result := <-pulled:
			// The pull that this one joined may have ended because the task that began it was stopped.
			if result.Shared && errors.Is(result.Err, context.Canceled) && ctx.Err() == nil {
				continue
			}
			return result.Err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func pull(ctx context.Context, client Client, reference string, task *config.Task, say func(format string, args ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, task.PullTimeout)
	defer cancel()
	say("Pulling image %s", reference)
	started := time.Now()
	last := started
	progress := func(line string) {
		if time.Since(last) >= progressInterval {
			last = time.Now()
			say("Pulling image %s: %s", reference, strings.TrimSpace(line))
		}
	}
	request := sockets.PullRequest{Reference: reference, TLSVerify: task.Auth.TLSVerify}
	if task.Auth.Username != "" {
		request.Auth = &sockets.Auth{Username: task.Auth.Username, Password: task.Auth.Password}
	}
	_, err := client.Pull(ctx, request, progress)
	switch {
	case err == nil:
		say("Pulled image %s in %s", reference, time.Since(started).Round(100*time.Millisecond))
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("pulling image %s did not end within image_pull_timeout (%s): %w", reference, task.PullTimeout, err)
	case unavailable(err):
		return fmt.Errorf("pulling image %s: %w: %w", reference, ErrUnavailable, err)
	}
	return fmt.Errorf("pulling image %s: %w", reference, err)
}

// unavailable tells a registry's refusal from a failure on the way. podman's API gives both as text only.
func unavailable(err error) bool {
	text := err.Error()
	for _, refusal := range []string{"manifest unknown", "not found", "name unknown", "repository name not known", "unauthorized", "authentication required", "access to the resource is denied", "short-name"} {
		if strings.Contains(text, refusal) {
			return true
		}
	}
	return false
}
