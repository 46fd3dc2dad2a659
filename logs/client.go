package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// FollowRequest names a running container's log and where its lines go.
type FollowRequest struct {
	// Task is the key under which the log process knows this container: one run of one task of
	// one allocation.
	Task string `json:"task"`
	// File is the container's k8s-file log (HostConfig.LogConfig.Path of podman inspect).
	File string `json:"file,omitempty"`
	// Container is the full ID of a container that logs to the journal instead.
	Container string `json:"container,omitempty"`
	// UID is the host user who runs the container: File is opened as that user, and only that user's entries of the
	// journal count.
	UID uint32 `json:"uid"`
	// Stdout and Stderr are the paths of Nomad's FIFOs.
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// TaskStatus is what the log process knows about one task. Sizes are bytes.
type TaskStatus struct {
	FollowRequest
	// Backlog is what the container has written to its log file and nobody has taken yet. It is 0 for the journal,
	// which tells no sizes.
	Backlog int64 `json:"backlog"`
	// Unread is what lies in the task's two FIFOs.
	Unread int64 `json:"unread"`
	// Dropped is what was thrown away because the backlog passed its limit.
	Dropped int64 `json:"dropped"`
	// Error says why the task is not followed any more; empty while it is.
	Error string `json:"error,omitempty"`
}

// Drop says that lines of a task's log were thrown away, because the backlog passed its limit.
type Drop struct {
	Task string `json:"task"`
	// Bytes is how much, since the task was followed first.
	Bytes int64 `json:"bytes"`
}

// Client talks to the log process. All its calls wait, until their context ends, for a log process
// that is not there or restarts meanwhile: give every call a deadline.
type Client struct {
	http   *http.Client
	socket string
}

// NewClient returns a client of the log process that listens, or will listen, at socketPath.
// It connects to nothing yet.
func NewClient(socketPath string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socketPath)
	}
	return &Client{
		socket: socketPath,
		// Clients come and go (see Ensure), and connecting costs little: no connection stays behind.
		http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
}

// Follow has the log process follow a running container's log. It returns once the file and the FIFOs
// are open. It is idempotent; a Task that is followed with other paths is an error.
// A container that has ended and may have been finished already must not be followed again,
// since its last lines would be repeated: only Finish it.
func (c *Client) Follow(ctx context.Context, r FollowRequest) error {
	return c.call(ctx, http.MethodPost, pathFollow, r, nil)
}

// Finish delivers the rest of an ended container's log (its conmon must be gone), closes the
// FIFOs, so that logmon reads the end of file, and forgets the task. When ctx ends before
// logmon has read everything, the FIFOs are closed all the same. The error says what is lost, also what was
// dropped before and nobody was told of (see Drops).
// Finishing a task that is not followed does nothing.
//
// It returns what the task has written to stderr last, at most 2 KiB: less when the log process was restarted since, or
// when the task was finished before.
func (c *Client) Finish(ctx context.Context, task string) (stderr []byte, err error) {
	r := finishRequest{Task: task, Timeout: defaultFinish}
	if deadline, ok := ctx.Deadline(); ok {
		// The process gives up a little earlier than the caller, who then hears what was lost.
		r.Timeout = time.Until(deadline) * 9 / 10
	}
	var finished finishAnswer
	err = c.call(ctx, http.MethodPost, pathFinish, r, &finished)
	if finished.Error != "" {
		err = fmt.Errorf("log process: %s", finished.Error)
	}
	return finished.Stderr, err
}

// Tasks lists the tasks that the log process follows.
func (c *Client) Tasks(ctx context.Context) ([]TaskStatus, error) {
	var tasks []TaskStatus
	err := c.call(ctx, http.MethodGet, pathTasks, nil, &tasks)
	return tasks, err
}

// Drops waits until lines of a task's log were dropped, and says of which tasks: until told of, and again when it has
// become twice as much. Told are those that the caller has dealt with since the last call. Unlike other calls it does
// not wait for a log process that is not there.
func (c *Client) Drops(ctx context.Context, told []Drop) ([]Drop, error) {
	body, err := json.Marshal(told)
	if err != nil {
		return nil, err
	}
	var drops []Drop
	err = c.try(ctx, http.MethodPost, pathDrops, body, &drops)
	return drops, err
}

// build returns which binary the log process runs.
func (c *Client) build(ctx context.Context) (executable, error) {
	var b executable
	err := c.call(ctx, http.MethodGet, pathBuild, nil, &b)
	return b, err
}

// Delays between attempts to reach the log process; systemd restarts it in a tenth of a second.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = 200 * time.Millisecond
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// errUnavailable says that the log process is not there (yet, or any more).
var errUnavailable = errors.New("the log process does not answer")

// call performs a request, which must be idempotent, as often as needed to get an answer.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		err := c.try(ctx, method, path, body, out)
		if !errors.Is(err, errUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%v); see systemctl status %s", err, context.Cause(ctx), UnitName)
		case <-time.After(delay):
		}
	}
}

func (c *Client) try(ctx context.Context, method, path string, body []byte, out any) (err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://logs"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w at %s: %w", errUnavailable, c.socket, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("%w at %s: %w", errUnavailable, c.socket, err)
	case resp.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%w at %s: %s", errUnavailable, c.socket, bytes.TrimSpace(answer))
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("log process: %s", bytes.TrimSpace(answer))
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}
