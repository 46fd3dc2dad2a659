package driver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"nomad-driver-podman/sockets"
)

// Within a host user's slice the tasks' own CPU weights decide who runs. Between the users those of the slices do, which
// systemd makes alike, whatever runs in them. So the driver sets them to the sum of what the user's tasks ask for.

const (
	// weightDelay gathers changes: tasks mostly start and end in groups, and each change costs a call of systemd.
	weightDelay = 500 * time.Millisecond
	// weightRetry is the time to the next try after one that has failed.
	weightRetry = time.Minute
	// weightTimeout bounds what systemd is asked for at a time.
	weightTimeout = time.Minute
)

// sharesPerWeight makes a CPU weight (systemd.resource-control(5), 1 to 10000) of shares, which Nomad counts in MHz. So
// 1000 MHz of tasks weigh as much as a user's slice does by default (100), and up to 100 GHz the order and the
// proportions hold.
const sharesPerWeight = 10

// cpuWeight is the weight of a host user's slice for the sum of the tasks' shares; 0, the default, without a task.
func cpuWeight(shares int64) uint64 {
	if shares <= 0 {
		return 0
	}
	return uint64(min(max(shares/sharesPerWeight, 1), 10000)) //nolint:gosec // positive
}

// weights are the host users whose tasks have changed since the weight of their slice was set.
type weights struct {
	wake chan struct{}

	mu      sync.Mutex
	changed map[uint32]bool
}

func newWeights() *weights {
	return &weights{wake: make(chan struct{}, 1), changed: map[uint32]bool{}}
}

// touch has the weight of a host user set soon. It waits for nothing.
func (w *weights) touch(uid uint32) {
	w.mark(uid)
	select {
	case w.wake <- struct{}{}:
	default: // it is about to be set anyway
	}
}

// mark has the weight of a host user set when another one is.
func (w *weights) mark(uid uint32) {
	if uid == 0 {
		return // root's podman has its containers in machine.slice
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed[uid] = true
}

// take returns the users to set the weights of, which then are not to be set any more.
func (w *weights) take() map[uint32]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.changed
	w.changed = map[uint32]bool{}
	return taken
}

// keepWeights sets the weights of host users' slices until the node ends.
func (d *Driver) keepWeights(n *node) {
	grace := time.After(n.config.GC.Dangling.Grace) // until Nomad has had the time to take its tasks up again
	retry := time.After(0)                          // an earlier configuration may have left some
	for {
		select {
		case <-retry:
		case <-grace:
			if err := d.touchWeighed(n.weightNotes()); err != nil {
				d.logger.Warn("which host users have a CPU weight from earlier is not known", "error", err)
			}
			continue
		case <-d.weights.wake:
		case <-n.ctx.Done():
			return
		}
		select {
		case <-time.After(weightDelay):
		case <-n.ctx.Done():
			return
		}
		if err := d.setWeights(n); err != nil && n.ctx.Err() == nil {
			d.logger.Warn("a host user's CPU weight cannot be set, and is tried again", "error", err)
			retry = time.After(weightRetry)
		}
	}
}

func (d *Driver) setWeights(n *node) error {
	changes := map[uint32]uint64{}
	for uid := range d.weights.take() {
		weight := uint64(0)
		if n.config.Rootless.CPUWeight {
			weight = cpuWeight(d.tasks.shares(uid))
		}
		// What the driver has not set it does not reset either.
		if weight != 0 || isWeighed(n.weightNotes(), uid) {
			changes[uid] = weight
		}
	}
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, weightTimeout)
	defer cancel()
	err := serviceManager{n.self}.call(ctx, func(systemd *sockets.Systemd) error {
		var errs []error
		for uid, weight := range changes {
			err := setWeight(n.weightNotes(), uid, weight, func() error { return systemd.SetUserWeight(ctx, uid, weight) })
			if err == nil {
				delete(changes, uid)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	for uid := range changes {
		d.weights.mark(uid)
	}
	return err
}

// setWeight has a weight set, or reset when it is 0. A note of it is there from before it is set until after it is reset.
func setWeight(notes string, uid uint32, weight uint64, set func() error) error {
	note := weightNote(notes, uid)
	if weight == 0 {
		if err := set(); err != nil {
			return err
		}
		return os.Remove(note)
	}
	if err := os.MkdirAll(notes, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		return err
	}
	return set()
}

// weightNotes is the directory that notes by UID whose weight is set. Weights last until the next boot; to reset one that is
// gone does no harm.
func (n *node) weightNotes() string { return filepath.Join(n.config.StateDir, "weights") }

func weightNote(notes string, uid uint32) string {
	return filepath.Join(notes, strconv.FormatUint(uint64(uid), 10))
}

// isWeighed tells whether a weight is set that was not reset since.
func isWeighed(notes string, uid uint32) bool {
	_, err := os.Lstat(weightNote(notes, uid))
	return err == nil
}

// touchWeighed has the weights looked at that an earlier process of the driver has set: their tasks may have ended
// meanwhile.
func (d *Driver) touchWeighed(notes string) error {
	noted, err := os.ReadDir(notes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, note := range noted {
		if uid, err := strconv.ParseUint(note.Name(), 10, 32); err == nil {
			d.weights.touch(uint32(uid))
		}
	}
	return nil
}
