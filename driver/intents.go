package driver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containers/storage/pkg/ioutils"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/sockets"
)

// intent says what may exist outside the driver for a task. It is written before anything is created and removed when
// nothing is left, so that whatever a crash leaves is found again (reconcile.go). A container's name has at most one:
// what an earlier try has left is removed before the next one begins.
type intent struct {
	Container string // its name
	TaskID    string // Nomad's ID of this try, under which its log is followed
	AllocID   string
	TaskName  string
	NodeID    string
	AllocDir  string
	HostUID   uint32
	Socket    string
	Logged    bool      // the log process may have its log
	Made      time.Time // zero: abandoned
}

// intentOf is the intent to run a task on an endpoint.
func intentOf(cfg *drivers.TaskConfig, endpoint *sockets.Endpoint, logged bool) intent {
	return intent{
		Container: spec.ContainerName(cfg),
		TaskID:    cfg.ID,
		AllocID:   cfg.AllocID,
		TaskName:  cfg.Name,
		NodeID:    cfg.NodeID,
		AllocDir:  cfg.AllocDir,
		HostUID:   endpoint.User().UID,
		Socket:    endpoint.Name(),
		Logged:    logged,
		Made:      time.Now(),
	}
}

// stage is the ID of the task's stage.
func (i intent) stage() string { return stageID(i.Container) }

// stageID names a container's stage, and its intent: one component of a path, whatever the task is called.
func stageID(container string) string {
	sum := sha256.Sum256([]byte(container))
	return hex.EncodeToString(sum[:16])
}

// intents is the directory of a node's intents.
type intents struct{ dir string }

func (s intents) path(container string) string {
	return filepath.Join(s.dir, stageID(container)+".json")
}

func (s intents) put(i intent) error {
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	// On disk, also for a host that loses its power the next moment.
	if err := ioutils.AtomicWriteFile(s.path(i.Container), text, 0o600); err != nil {
		return fmt.Errorf("noting what is begun (plugin option state_dir): %w", err)
	}
	return nil
}

func (s intents) remove(container string) error {
	if err := os.Remove(s.path(container)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// abandon leaves what the intent stands for to the reconciler, from now on.
func (s intents) abandon(i intent) error {
	i.Made = time.Time{}
	return s.put(i)
}

// abandoned tells whether the task is destroyed, and only something of it may be left.
func (i intent) abandoned() bool { return i.Made.IsZero() }

// get is the intent for a container's name, if there is one.
func (s intents) get(container string) (i intent, found bool, err error) {
	i, err = readIntent(s.path(container))
	if errors.Is(err, fs.ErrNotExist) {
		return intent{}, false, nil
	}
	return i, err == nil, err
}

// all are the intents that can be read. The others are in the error.
func (s intents) all() ([]intent, error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var found []intent
	var errs []error
	for _, path := range paths {
		i, err := readIntent(path)
		switch {
		case err == nil:
			found = append(found, i)
		case !errors.Is(err, fs.ErrNotExist): // else removed meanwhile
			errs = append(errs, err)
		}
	}
	return found, errors.Join(errs...)
}

func readIntent(path string) (i intent, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // below the driver's own directory
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(text, &i); err != nil {
		return i, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}
