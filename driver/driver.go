// Package driver is the Nomad task driver: it implements Nomad's driver interface over podman endpoints.
package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/drivers/shared/eventer"
	cpuinfo "github.com/hashicorp/nomad/helper/stats"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"

	"nomad-driver-podman/allocdir"
	"nomad-driver-podman/cgroupv2"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/images"
	"nomad-driver-podman/exits"
)

// Name is the driver's name in jobs.
const Name = "podman"

// Driver implements drivers.DriverPlugin.
type Driver struct {
	ctx     context.Context
	logger  hclog.Logger
	version string
	events  *eventer.Eventer
	exits   *exits.Loop
	images  images.Puller
	tasks   store
	claims  claims
	drops   sync.Once // starts tellDrops
	weights *weights
	cores   *cgroupv2.CPUWatch
	allocs  *allocdir.Guard // nil when this process is not root
	looks   chan *task      // whose cgroups are to be looked at

	mu   sync.RWMutex
	node *node
	// changed wakes the fingerprint when an endpoint's state has changed.
	changed chan struct{}
}

var _ drivers.DriverPlugin = (*Driver)(nil)

// New makes a driver that lives as long as ctx.
func New(ctx context.Context, logger hclog.Logger, version string) (*Driver, error) {
	loop, err := exits.New()
	if err != nil {
		return nil, fmt.Errorf("watching for the end of processes: %w", err)
	}
	logger = logger.Named(Name)
	cores, err := cgroupv2.WatchCPUs()
	if err != nil {
		logger.Warn("running tasks do not hear of cores that others reserve (is fs.inotify.max_user_instances too low?)", "error", err)
	}
	// Without it Nomad's package knows no clock rate, and takes what tasks use for 0 MHz.
	if err := cpuinfo.Init(); err != nil {
		logger.Warn("finding the clock rate of the processors; what tasks use is not known in MHz", "error", err)
	}
	driver := &Driver{
		ctx:     ctx,
		logger:  logger,
		version: version,
		// It would log events that Nomad is slow to take, which may have a task's own words.
		events:  eventer.NewEventer(ctx, hclog.NewNullLogger()),
		exits:   loop,
		weights: newWeights(),
		cores:   cores,
		looks:   make(chan *task, 256),
		changed: make(chan struct{}, 1),
	}
	if os.Geteuid() == 0 {
		if driver.allocs, err = allocdir.NewGuard(driver.takeReport); err != nil {
			return nil, errors.Join(fmt.Errorf("watching the directories of allocations: %w (is fs.inotify.max_user_instances too low?)", err), loop.Close(), cores.Close())
		}
	}
	context.AfterFunc(ctx, driver.close)
	go driver.shareCores()
	go driver.runLooks()
	return driver, nil
}

func (d *Driver) close() {
	if err := d.exits.Close(); err != nil {
		d.logger.Warn("closing the exit loop", "error", err)
	}
	if err := d.cores.Close(); err != nil {
		d.logger.Warn("closing the watch for reserved cores", "error", err)
	}
	if err := d.allocs.Close(); err != nil {
		d.logger.Warn("closing the watch for directories of allocations", "error", err)
	}
	if node := d.current(); node != nil {
		node.close(d.logger)
	}
}

// keep adds a task to those that are there. The others have to share processors with it from now on.
func (d *Driver) keep(t *task) {
	d.watchShared(t)
	d.tasks.put(t.cfg.ID, t)
	d.cores.Wake()
	d.weights.touch(t.state.HostUID)
}

// PluginInfo says what this plugin is.
func (d *Driver) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDriver,
		PluginApiVersions: []string{drivers.ApiVersion010},
		PluginVersion:     d.version,
		Name:              Name,
	}, nil
}

// ConfigSchema is the schema of the plugin's config block.
func (d *Driver) ConfigSchema() (*hclspec.Spec, error) { return config.PluginSchema(), nil }

// TaskConfigSchema is the schema of a task's config block.
func (d *Driver) TaskConfigSchema() (*hclspec.Spec, error) { return config.TaskSchema(), nil }

// Capabilities says what Nomad may ask of this driver.
func (d *Driver) Capabilities() (*drivers.Capabilities, error) {
	node := d.current()
	return &drivers.Capabilities{
		SendSignals:       true,
		Exec:              true,
		FSIsolation:       drivers.FSIsolationImage,
		NetIsolationModes: []drivers.NetIsolationMode{drivers.NetIsolationModeHost, drivers.NetIsolationModeGroup, drivers.NetIsolationModeTask},
		MountConfigs:      drivers.MountConfigSupportAll,
		// Nomad then starts no process that would wait for them.
		DisableLogCollection: node != nil && node.config.DisableLogs,
	}, nil
}

// SetConfig takes the agent's configuration. Nomad calls it once, before anything else.
func (d *Driver) SetConfig(cfg *base.Config) error {
	plugin, err := config.DecodePlugin(cfg.PluginConfig)
	if err != nil {
		return err
	}
	node, err := newNode(plugin, d.logger, d.wakeFingerprint)
	if err != nil {
		return err
	}
	d.mu.Lock()
	earlier := d.node
	d.node = node
	d.mu.Unlock()
	d.expectBuild(node)
	if earlier != nil {
		earlier.close(d.logger) // waits for what may ask for the configuration in force
	}
	node.background.Go(func() { d.reconciler(node) })
	if node.self.IsRoot() {
		node.background.Go(func() { d.keepWeights(node) })
	}
	return nil
}

// current is the configuration in force, nil before SetConfig.
func (d *Driver) current() *node {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.node
}

// TaskEvents streams events of tasks to Nomad.
func (d *Driver) TaskEvents(ctx context.Context) (<-chan *drivers.TaskEvent, error) {
	return d.events.TaskEvents(ctx)
}
