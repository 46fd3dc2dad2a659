package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// journalLog is the log of a container with podman's log driver journald as a follower's source: the entries that
// conmon has written into the systemd journal. The journal itself is what waits for slow readers.
type journalLog struct {
	*follower
	reader *journalReader
	ending bool // the container has ended, and the reader reads what is left
}

func (j *journalLog) open(ctx context.Context) error {
	j.reader = j.read(ctx, true)
	return nil
}

func (j *journalLog) close() { j.reader.close() }

// read begins to read behind the follower's position.
func (j *journalLog) read(ctx context.Context, follow bool) *journalReader {
	r := &journalReader{
		journalctl: j.journalctl,
		req:        j.req,
		follow:     follow,
		cursor:     j.pos.Read.Cursor,
		awake:      j.awake,
		failed: func(err error) {
			j.logger.Warn("reading the journal failed; trying again", "task", j.req.Task, "error", err)
		},
		entries: make(chan entry, 16),
	}
	ctx, r.stop = context.WithCancel(ctx)
	go r.run(ctx)
	return r
}

// carry delivers what the reader has got by now.
func (j *journalLog) carry(ctx context.Context, last bool) (more bool, err error) {
	if last && !j.ending {
		// A journalctl that follows does not tell where the end is, so the rest is read by one that does not.
		j.reader.close()
		if err := j.journalctl.sync(ctx); err != nil {
			level := hclog.Debug // journald lets root alone ask for that
			if os.Geteuid() == 0 {
				level, j.doubt = hclog.Warn, err
			}
			j.logger.Log(level, "the journal was not synchronized; it may lack the very last lines", "task", j.req.Task, "error", err)
		}
		j.reader, j.ending = j.read(ctx, false), true
	}
	out, to := output{j.bufs.out[stdout][:0], j.bufs.out[stderr][:0]}, j.pos.Read
	for max(len(out[stdout]), len(out[stderr])) <= chunk-maxText {
		e, found := j.reader.next(ctx, j.ending && to == j.pos.Read)
		if !found {
			break
		}
		out[e.stream] = append(out[e.stream], e.text...)
		to.Cursor = e.cursor
	}
	switch {
	case to != j.pos.Read:
	case !j.ending:
		return false, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	default:
		return false, j.reader.err
	}
	if _, err := j.deliver(ctx, &out); err != nil {
		return false, err
	}
	return true, j.advance(&out, to)
}

func (j *journalLog) skip() (bool, error) { return false, nil }

func (j *journalLog) backlog() (int64, error) { return 0, nil }

func (j *journalLog) lost() (string, error) {
	return "the end of its log may be only in the journal (journalctl " + match(j.req.Container) + ")", nil
}

// journalReader reads a container's entries of the journal with a child process, journalctl(1): systemd has no
// library for programs that do without C's.
type journalReader struct {
	journalctl journalctl
	req        FollowRequest
	follow     bool
	cursor     cursor      // of the last entry that was passed on
	awake      func()      // called when there are new entries, or the end
	failed     func(error) // called when reading is tried again
	stop       context.CancelFunc

	entries chan entry // closed when the goroutine has ended: when told to, or at the end without follow
	err     error      // why reading ended early, then
}

// Delays before a journalctl that has ended, for instance because somebody killed it, is started again.
const (
	firstJournalRetry = 100 * time.Millisecond
	lastJournalRetry  = time.Minute
)

func (r *journalReader) run(ctx context.Context) {
	defer r.awake()
	defer close(r.entries)
	delay := firstJournalRetry
	for {
		before := r.cursor
		err := r.once(ctx)
		if !r.follow || ctx.Err() != nil {
			r.err = err
			return
		}
		if r.cursor != before {
			delay = firstJournalRetry
		}
		r.failed(err)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, lastJournalRetry)
	}
}

// once passes on what one journalctl prints.
func (r *journalReader) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args := []string{"--quiet", "--no-tail", "--output=export", "--output-fields=MESSAGE,PRIORITY"}
	if r.follow {
		args = append(args, "--follow")
	}
	if r.cursor != (cursor{}) {
		args = append(args, "--after-cursor="+r.cursor.String())
	}
	cmd, err := r.journalctl.command(ctx, append(args, matches(r.req)...)...)
	if err != nil {
		return err
	}
	var complaint beginning
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("journalctl: %w", err)
	}
	err = r.pass(ctx, bufio.NewReaderSize(out, maxText))
	if err != nil {
		cancel() // it may not have ended
	}
	ended := cmd.Wait()
	if ended == nil && r.follow {
		ended = errors.New("exit status 0")
	}
	if ended != nil {
		err = errors.Join(err, fmt.Errorf("journalctl has ended: %w: %s", ended, bytes.TrimSpace(complaint)))
	}
	return err
}

// beginning keeps the first of what is written to it.
type beginning []byte

func (b *beginning) Write(p []byte) (int, error) {
	const most = 1 << 10
	*b = append(*b, p[:min(len(p), most-len(*b))]...)
	return len(p), nil
}

func (r *journalReader) pass(ctx context.Context, in *bufio.Reader) error {
	for {
		e, err := readEntry(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case r.entries <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.cursor = e.cursor
		r.awake()
	}
}

// next returns the next entry that was read. With wait it returns false only at the end.
func (r *journalReader) next(ctx context.Context, wait bool) (entry, bool) {
	select {
	case e, open := <-r.entries:
		return e, open
	default:
	}
	if !wait {
		return entry{}, false
	}
	select {
	case e, open := <-r.entries:
		return e, open
	case <-ctx.Done():
		return entry{}, false
	}
}

// close ends the reader and its journalctl.
func (r *journalReader) close() {
	r.stop()
	for range r.entries { // until it is closed
	}
}

// matches are the entries that conmon has written for this container: the ID is what conmon says and anybody could, the
// user what the kernel says (systemd.journal-fields(7)).
func matches(q FollowRequest) []string {
	return []string{match(q.Container), "_UID=" + strconv.FormatUint(uint64(q.UID), 10)}
}

func match(container string) string { return "CONTAINER_ID_FULL=" + container }

// journalctl is how journalctl(1) is run.
type journalctl struct {
	// user returns as whom; nil means as this process.
	user func() (*syscall.Credential, error)
}

// Bounds of calls of journalctl that end by themselves.
const (
	journalCheckTimeout = 30 * time.Second
	journalSyncTimeout  = 30 * time.Second
)

// command prepares a journalctl that can do nothing but read the journal. It is ended with ctx.
func (j journalctl) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, "journalctl", args...) //nolint:gosec // the arguments are ours, but for checked IDs
	cmd.Dir, cmd.Env = "/", []string{"LC_ALL=C"}
	credential, err := j.user()
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	return cmd, nil
}

// check finds out whether the journal can be read.
func (j journalctl) check(ctx context.Context, q FollowRequest) error {
	ctx, cancel := context.WithTimeout(ctx, journalCheckTimeout)
	defer cancel()
	cmd, err := j.command(ctx, append([]string{"--quiet", "--lines=0"}, matches(q)...)...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the log driver journald cannot be used, since the journal cannot be read (systemd-tmpfiles --create --prefix=/var/log/journal gives it its permissions): journalctl: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// sync waits until the journal has all that was sent to it.
func (j journalctl) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, journalSyncTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "journalctl", "--sync").CombinedOutput(); err != nil {
		return fmt.Errorf("journalctl --sync: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// journalUser is a user who can read every journal and nothing else, when this process can become that user.
func journalUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	group, err := user.LookupGroup("systemd-journal")
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(group.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group systemd-journal: %w", err)
	}
	const nobody = 65534 // owns nothing (https://systemd.io/UIDS-GIDS)
	return &syscall.Credential{Uid: nobody, Gid: uint32(gid)}, nil
}
