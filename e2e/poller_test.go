//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// poller asks podman what HashiCorp's nomad-driver-podman 0.6.5 asks while tasks run, with an HTTP client set up in the
// same way: the stats of every container once a second (handle.go, runContainerMonitor), and whether podman is well
// every 30 seconds (driver.go, buildFingerprint).
type poller struct {
	client  *http.Client
	answers atomic.Int64
}

// pingPath is the request that podman answers soonest.
const pingPath = "/libpod/_ping"

func newPoller(socket string) *poller {
	dialer := &net.Dialer{}
	return &poller{client: &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}},
	}}
}

// poll goes on until the context ends, and returns how many answers have come.
func (p *poller) poll(ctx context.Context, containers []string) (int64, error) {
	group, ctx := errgroup.WithContext(ctx)
	for _, id := range containers {
		group.Go(func() error { return p.every(ctx, time.Second, "/v1.0.0/libpod/containers/"+id+"/stats?stream=false") })
	}
	group.Go(func() error { return p.every(ctx, 30*time.Second, pingPath, "/v1.0.0/libpod/info") })
	err := group.Wait()
	return p.answers.Load(), err
}

// every makes the requests at each interval, and at once when the last ones have taken longer.
func (p *poller) every(ctx context.Context, interval time.Duration, paths ...string) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(interval)
		}
		for _, path := range paths {
			err := p.get(ctx, path)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			p.answers.Add(1)
		}
	}
}

func (p *poller) get(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://u"+path, nil)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return nil
}
