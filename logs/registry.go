package logs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nomad-driver-podman/rootless"
)

// registry holds the tasks that the log process follows, and keeps of each in the state directory and in
// systemd what a successor needs.
type registry struct {
	ServeConfig
	ctx     context.Context // ends the followers
	store   fdStore
	watcher *watcher

	mu    sync.Mutex
	tasks map[string]*task // by FollowRequest.Task
	drop  chan struct{}    // closed, and replaced, when drops has to look again
}

// task is one followed log.
type task struct {
	req    FollowRequest
	key    string        // names it in the file system and in systemd
	opened chan struct{} // closed once the fields below are set
	err    error         // why it could not be opened

	follower *follower // nil with err
	log      *os.File  // nil when it is in the journal
	offsets  *os.File
	fifos    [streams]*fifo
	fresh    bool // a FIFO was opened anew: what lay in it before may be lost

	close   func() error // once; see registry.closeTask
	closing bool         // under registry.mu
}

func newRegistry(ctx context.Context, c ServeConfig, store fdStore, watch *watcher) *registry {
	return &registry{
		ServeConfig: c, ctx: ctx, store: store, watcher: watch,
		tasks: make(map[string]*task), drop: make(chan struct{}),
	}
}

func (r *registry) newTask(q FollowRequest) *task {
	sum := sha256.Sum256([]byte(q.Task))
	t := &task{req: q, key: hex.EncodeToString(sum[:16]), opened: make(chan struct{})}
	t.close = sync.OnceValue(func() error { return r.closeTask(t) })
	return t
}

// Names of a task's descriptors in systemd, and of its files in the state directory.
const (
	requestSuffix  = ".json"
	positionSuffix = ".position"
)

func (t *task) logName() string          { return "log-" + t.key }
func (t *task) fifoName(s stream) string { return [streams]string{"stdout-", "stderr-"}[s] + t.key }
func (t *task) fifoPath(s stream) string { return [streams]string{t.req.Stdout, t.req.Stderr}[s] }

func (r *registry) path(t *task, suffix string) string {
	return filepath.Join(r.StateDir, t.key+suffix)
}

// maxTask bounds the length of a task's key and of each path, bytes.
const maxTask = 4096

func (q FollowRequest) validate() error {
	if q.Task == "" || len(q.Task) > maxTask {
		return errors.New("a task needs a key")
	}
	paths := []string{q.Stdout, q.Stderr}
	switch {
	case q.Container == "":
		paths = append(paths, q.File)
	case q.File != "":
		return fmt.Errorf("task %s: its log is either in a file or in the journal", q.Task)
	case !isContainerID(q.Container):
		return fmt.Errorf("task %s: %q is not a full container ID", q.Task, q.Container)
	}
	for _, p := range paths {
		if !filepath.IsAbs(p) || len(p) > maxTask {
			return fmt.Errorf("task %s: %q is not an absolute path", q.Task, p)
		}
	}
	return nil
}

// isContainerID tells podman's IDs, 32 bytes in hexadecimal, from what else its answer may hold.
func isContainerID(text string) bool {
	id, err := hex.DecodeString(text)
	return err == nil && len(id) == 32 && text == strings.ToLower(text)
}

// follow begins to follow a task, unless it is followed already. One of the last process's that could not be
// opened (a user whom LDAP did not know yet) is tried again.
func (r *registry) follow(ctx context.Context, q FollowRequest) error {
	if err := q.validate(); err != nil {
		return err
	}
	t := r.newTask(q)
	r.mu.Lock()
	if r.ctx.Err() != nil {
		r.mu.Unlock()
		return errUnavailable
	}
	known := r.tasks[q.Task]
	closing, again := known != nil && known.closing, known != nil && known.req == q && known.failed()
	if again && !closing {
		t.log, t.fifos, t.fresh = known.log, known.fifos, known.fresh
	}
	if known == nil || again && !closing {
		r.tasks[q.Task] = t
	}
	r.mu.Unlock()
	switch {
	case known == nil:
		return r.begin(t)
	case closing:
		return errUnavailable // not for long
	case known.req != q:
		return fmt.Errorf("task %s is followed with other paths: finish it first", q.Task)
	case again:
		return r.open(t, nil)
	default:
		return known.await(ctx)
	}
}

// begin opens a task that was never followed.
func (r *registry) begin(t *task) error {
	if err := r.prepare(t); err != nil {
		// Forgotten first, so that nobody opens it in another try.
		t.err = errors.Join(err, r.forget(t))
		close(t.opened)
		return t.err
	}
	if err := r.open(t, nil); err != nil {
		return errors.Join(err, r.forget(t))
	}
	return nil
}

// prepare does what comes before a task is opened for the first time.
func (r *registry) prepare(t *task) error {
	// Of a run with the same key, that a kill has left.
	if err := os.Remove(r.path(t, positionSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if t.req.Container != "" {
		if err := r.journalctl.check(r.ctx, t.req); err != nil {
			return err
		}
	}
	return r.saveRequest(t)
}

// failed tells whether the task could not be opened.
func (t *task) failed() bool {
	select {
	case <-t.opened:
		return t.err != nil
	default:
		return false
	}
}

// await waits until the task has been opened, and returns why it could not be.
func (t *task) await(ctx context.Context) error {
	select {
	case <-t.opened:
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("task %s: its log is still being opened: %w", t.req.Task, context.Cause(ctx))
	}
}

// open opens those of a task's files that are neither open nor kept, and starts its follower. After an error, what
// could be opened stays open.
func (r *registry) open(t *task, kept map[string]*os.File) (err error) {
	defer func() {
		t.err = err
		close(t.opened)
		r.dropped() // perhaps: it was not looked at before
	}()
	for s := range streams {
		if t.fifos[s] != nil {
			continue
		}
		old := kept[t.fifoName(s)]
		if t.fifos[s], err = openFIFO(t.fifoPath(s), old); err != nil {
			return err
		}
		if old == nil {
			t.fresh = true
			if err := r.store.add(t.fifoName(s), t.fifos[s].file); err != nil {
				return err
			}
		}
	}
	if t.log == nil {
		t.log = kept[t.logName()]
	}
	if t.log == nil && t.req.Container == "" {
		user, err := rootless.LookupUID(t.req.UID)
		if err != nil {
			return err
		}
		// Written to, too: delivered text is dropped from it.
		if t.log, err = user.OpenRegular(t.req.File, os.O_RDWR); err != nil {
			return err
		}
		if err := r.store.add(t.logName(), t.log); err != nil {
			return err
		}
	}
	if t.offsets, err = os.OpenFile(r.path(t, positionSuffix), os.O_RDWR|os.O_CREATE, 0o600); err != nil { //nolint:gosec // ours
		return err
	}
	t.follower, err = follow(r.ctx, followerConfig{
		req: t.req, log: t.log, fifos: t.fifos, offsets: t.offsets, resumed: !t.fresh,
		maxBacklog: r.Backlog, watcher: r.watcher, journalctl: r.journalctl, onDrop: r.dropped, logger: r.Logger,
	})
	return err
}

// saveRequest writes down that the task is followed.
func (r *registry) saveRequest(t *task) error {
	b, err := json.Marshal(t.req)
	if err != nil {
		return err
	}
	path := r.path(t, requestSuffix)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// restore goes on with the tasks of the process before this one, with the descriptors that systemd kept for it.
func (r *registry) restore(kept map[string]*os.File) error {
	files, err := filepath.Glob(filepath.Join(r.StateDir, "*"+requestSuffix))
	if err != nil {
		return err
	}
	for _, file := range files {
		b, err := os.ReadFile(file) //nolint:gosec // ours
		if err != nil {
			return err
		}
		var q FollowRequest
		if err := json.Unmarshal(b, &q); err != nil || q.validate() != nil {
			r.Logger.Error("ignoring a damaged request", "file", file, "error", err)
			continue
		}
		t := r.newTask(q)
		r.mu.Lock() // those before may be forgotten meanwhile
		r.tasks[q.Task] = t
		r.mu.Unlock()
		mine := make(map[string]*os.File)
		for _, name := range []string{t.logName(), t.fifoName(stdout), t.fifoName(stderr)} {
			if f, ok := kept[name]; ok {
				mine[name] = f
				delete(kept, name)
			}
		}
		// Each for itself: a user's file system may hang.
		go func() {
			err := r.open(t, mine)
			if errors.Is(err, fs.ErrNotExist) && slices.Contains(t.fifos[:], nil) {
				r.Logger.Info("forgetting a task whose allocation is gone", "task", q.Task, "error", err)
				err = r.forget(t)
			}
			if err != nil {
				r.Logger.Error("cannot go on with a task's log", "task", q.Task, "error", err)
			}
		}()
	}
	for name, f := range kept {
		r.Logger.Info("closing a descriptor of no known task", "name", name)
		if err := errors.Join(f.Close(), r.store.remove(name)); err != nil {
			return err
		}
	}
	return nil
}

// finish delivers the rest of a task's log and forgets the task. It returns the end of its stderr.
func (r *registry) finish(ctx context.Context, name string) (stderr []byte, err error) {
	r.mu.Lock()
	t := r.tasks[name]
	r.mu.Unlock()
	if t == nil {
		return nil, nil
	}
	err = t.await(ctx)
	select {
	case <-t.opened:
	default:
		return nil, err // hangs in the user's file system
	}
	if t.follower != nil {
		err = t.follower.finish(ctx)
		stderr = t.follower.errTail.lines()
	}
	if r.ctx.Err() != nil {
		return nil, errUnavailable // the successor goes on with it
	}
	return stderr, errors.Join(err, r.forget(t))
}

// forget closes everything of a task, here and in systemd, so that logmon sees the end of its FIFOs.
func (r *registry) forget(t *task) error {
	r.mu.Lock()
	mine := r.tasks[t.req.Task] == t
	t.closing = mine
	r.mu.Unlock()
	if !mine {
		return nil // forgotten or replaced meanwhile
	}
	err := t.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks[t.req.Task] == t {
		delete(r.tasks, t.req.Task)
	}
	return err
}

// closeTask is for a task whose follower has ended, or never began.
func (r *registry) closeTask(t *task) error {
	var errs []error
	for _, suffix := range []string{requestSuffix, positionSuffix} {
		if err := os.Remove(r.path(t, suffix)); !errors.Is(err, fs.ErrNotExist) { //nolint:gosec // ours
			errs = append(errs, err)
		}
	}
	for s, w := range t.fifos {
		if w != nil {
			errs = append(errs, w.close())
		}
		errs = append(errs, r.store.remove(t.fifoName(stream(s))))
	}
	for _, f := range []*os.File{t.log, t.offsets} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(append(errs, r.store.remove(t.logName()), r.store.barrier())...)
}

// status describes all tasks, by name.
func (r *registry) status() []TaskStatus {
	list := []TaskStatus{}
	for _, t := range r.all() {
		st := TaskStatus{FollowRequest: t.req}
		var err error
		select {
		case <-t.opened:
			if err = t.err; err == nil {
				err = t.follower.status(&st)
			}
		default:
			err = errors.New("its log is being opened")
		}
		if err != nil {
			st.Error = err.Error()
		}
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b TaskStatus) int { return strings.Compare(a.Task, b.Task) })
	return list
}

// dropped wakes those who wait in drops: lines of a task may have been dropped.
func (r *registry) dropped() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.drop)
	r.drop = make(chan struct{})
}

// drops waits for tasks of whose dropped lines the driver does not know yet.
func (r *registry) drops(ctx context.Context, told []Drop) ([]Drop, error) {
	for _, d := range told {
		r.mu.Lock()
		t := r.tasks[d.Task]
		r.mu.Unlock()
		if t != nil && t.follows() {
			t.follower.told.Store(d.Bytes)
		}
	}
	for {
		r.mu.Lock()
		next := r.drop
		r.mu.Unlock()
		var list []Drop
		for _, t := range r.all() {
			if !t.follows() {
				continue
			}
			// Again when it has doubled: a reader that stays away must not fill a task's events.
			bytes, known := t.follower.dropped.Load(), t.follower.told.Load()
			if bytes > 0 && bytes >= 2*known {
				list = append(list, Drop{Task: t.req.Task, Bytes: bytes})
			}
		}
		if list != nil {
			return list, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.ctx.Done():
			return nil, errUnavailable
		}
	}
}

// follows tells whether the task has been opened.
func (t *task) follows() bool {
	select {
	case <-t.opened:
		return t.err == nil
	default:
		return false
	}
}

func (r *registry) all() []*task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.tasks))
}

// wait waits, but not for long, until all followers have saved where they are.
func (r *registry) wait(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, t := range r.all() {
		if t.await(ctx) == nil {
			select {
			case <-t.follower.done:
			case <-ctx.Done():
			}
		}
	}
}
