package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// ServeConfig configures the log process.
type ServeConfig struct {
	// Socket is the path of the control socket. Its directory is made, and must be, its owner's only.
	Socket string
	// StateDir holds what must survive a restart. It is the log process' own, and its owner's only.
	StateDir string
	// Backlog is how many bytes a container may write ahead of what is read of its FIFOs before
	// the oldest lines are dropped; 0 means DefaultBacklog.
	Backlog int64
	Logger  hclog.Logger

	journalctl journalctl // the zero value means journalUser's
}

// DefaultBacklog is ServeConfig.Backlog's default, 64 MiB: of a task that prints more than that while nobody reads,
// Nomad would not keep much more either (10 files of 10 MB a stream).
const DefaultBacklog = 64 << 20

// Requests of the control socket. All are idempotent.
const (
	pathFollow = "/follow"
	pathFinish = "/finish"
	pathTasks  = "/tasks"
	pathDrops  = "/drops"
	pathBuild  = "/build"
)

// finishRequest is the body of pathFinish. The process keeps to Timeout also when its client is gone.
type finishRequest struct {
	Task    string        `json:"task"`
	Timeout time.Duration `json:"timeout"`
}

// finishAnswer is the answer: what the task has written to stderr last, also when Error says that something was lost.
type finishAnswer struct {
	Stderr []byte `json:"stderr"`
	Error  string `json:"error,omitempty"`
}

const (
	// defaultFinish is for a Finish whose caller gave no deadline.
	defaultFinish = 30 * time.Second
	// maxRequest bounds a request's body, bytes.
	maxRequest = 1 << 20
	// requestTimeout bounds how long a client may take to send a request.
	requestTimeout = 10 * time.Second
	// stopTimeout bounds the wait for followers at the end; one may hang in a read of a user's file system.
	stopTimeout = 2 * time.Second
)

// Serve runs the log process until ctx ends: it goes on with the tasks of its predecessor, then
// answers the control socket. Two processes cannot share a state directory.
func Serve(ctx context.Context, c ServeConfig) (err error) {
	if c.Backlog == 0 {
		c.Backlog = DefaultBacklog
	}
	if c.journalctl.user == nil {
		c.journalctl.user = journalUser
	}
	for _, dir := range []string{c.StateDir, filepath.Dir(c.Socket)} {
		if err := privateDir(dir); err != nil {
			return err
		}
	}
	unlock, err := lock(filepath.Join(c.StateDir, "lock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	exe, err := self()
	if err != nil {
		return err
	}
	watch, err := newWatcher()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, watch.close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	store, kept := openStore()
	r := newRegistry(ctx, c, store, watch)
	defer r.wait(stopTimeout)
	defer cancel() // before the wait
	if err := r.restore(kept); err != nil {
		return err
	}
	l, err := listen(c.Socket)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:     (&handler{tasks: r, exe: exe}).mux(),
		ReadTimeout: requestTimeout,
		ErrorLog:    c.Logger.StandardLogger(nil),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := store.ready(); err != nil {
		return errors.Join(err, l.Close())
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler answers the control socket.
type handler struct {
	tasks *registry
	exe   executable
}

func (h *handler) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathFollow, func(w http.ResponseWriter, req *http.Request) {
		var r FollowRequest
		if decode(w, req, &r) {
			answer(w, nil, h.tasks.follow(req.Context(), r))
		}
	})
	mux.HandleFunc("POST "+pathFinish, func(w http.ResponseWriter, req *http.Request) {
		var r finishRequest
		if decode(w, req, &r) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), max(r.Timeout, 0))
			defer cancel()
			stderr, err := h.tasks.finish(ctx, r.Task)
			finished := finishAnswer{Stderr: stderr}
			if err != nil && !errors.Is(err, errUnavailable) {
				finished.Error, err = err.Error(), nil
			}
			answer(w, finished, err)
		}
	})
	mux.HandleFunc("GET "+pathTasks, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, h.tasks.status(), nil)
	})
	mux.HandleFunc("POST "+pathDrops, func(w http.ResponseWriter, req *http.Request) {
		var told []Drop
		if decode(w, req, &told) {
			// What bounds the request must not end the wait for the answer.
			_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // fails when the client is gone
			drops, err := h.tasks.drops(req.Context(), told)
			answer(w, drops, err)
		}
	})
	mux.HandleFunc("GET "+pathBuild, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, h.exe, nil)
	})
	return mux
}

func decode(w http.ResponseWriter, req *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxRequest)).Decode(v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, v any, err error) {
	var body []byte
	if err == nil {
		body, err = json.Marshal(v)
	}
	switch {
	case errors.Is(err, errUnavailable):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		_, _ = w.Write(body) // a client that is gone asks again
	}
}

// listen makes the control socket, in place of one that a predecessor has left.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket of the log process: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return ownPeers{l}, nil
}

// ownPeers accepts connections of this process's user and of root only.
type ownPeers struct{ *net.UnixListener }

func (l ownPeers) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUID(c)
		if err == nil && (uid == 0 || int(uid) == os.Geteuid()) {
			return c, nil
		}
		_ = c.Close() // a stranger
	}
}

// privateDir makes a directory that only this process's user can enter, or checks that it is one.
func privateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a directory of UID %d that nobody else can enter (chmod 0700)", path, os.Geteuid())
	}
	return nil
}

// lock takes the state directory for this process; the kernel gives it back when the process ends.
func lock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600) //nolint:gosec // ours
	if err != nil {
		return nil, err
	}
	err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("another log process uses this state directory: %w", err), f.Close())
	}
	return f.Close, nil
}
