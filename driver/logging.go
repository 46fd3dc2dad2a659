package driver

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/logs"
	"nomad-driver-podman/sockets"
)

// logging is the task's logging block, else the plugin's.
func (n *node) logging(conf *config.Task) config.Logging {
	if conf.Logging.Driver != "" {
		return conf.Logging
	}
	return n.config.Logging
}

// collectsLog tells whether the task's log goes to Nomad.
func (n *node) collectsLog(cfg *drivers.TaskConfig) bool {
	return !n.config.DisableLogs && !spec.NoLogs(cfg)
}

func (s *start) ensureLogs(ctx context.Context) error {
	if !s.node.collectsLog(s.cfg) {
		return nil
	}
	// Among the last undone: a log ends with its container.
	s.undo = append(s.undo, func(ctx context.Context) error {
		if s.task == nil || !s.task.state.LogFollowed {
			return nil
		}
		_, err := s.node.logs.Finish(ctx, s.cfg.ID)
		return err
	})
	return s.node.ensureLogs(ctx)
}

func (s *start) followLog(ctx context.Context) error {
	return s.driver.followLog(ctx, s.node, s.task, s.container, s.endpoint)
}

// followLog has the log of a task's running container carried to Nomad, unless nobody wants it.
func (d *Driver) followLog(ctx context.Context, n *node, t *task, container *sockets.Container, endpoint *sockets.Endpoint) error {
	if !n.collectsLog(t.cfg) {
		return nil
	}
	request := logs.FollowRequest{
		Task:   t.cfg.ID,
		UID:    endpoint.User().UID,
		Stdout: t.cfg.StdoutPath,
		Stderr: t.cfg.StderrPath,
	}
	if container.HostConfig.LogConfig.Type == config.LogJournald {
		request.Container = t.state.ContainerID
	} else {
		request.File = filepath.Clean(container.HostConfig.LogConfig.Path)
	}
	t.state.LogFollowed = true // also when the answer is lost
	if err := n.logs.Follow(ctx, request); err != nil {
		return err
	}
	d.watchDrops()
	return nil
}

// finishLog has the rest of an ended task's log delivered, and returns the end of its stderr. After a reboot nobody has
// started the log process yet.
func (d *Driver) finishLog(t *task) (stderr []byte) {
	if !t.state.LogFollowed {
		return nil
	}
	ctx, cancel := context.WithTimeout(d.ctx, finishTimeout)
	defer cancel()
	node := d.current()
	err := node.ensureLogs(ctx)
	if err == nil {
		stderr, err = node.logs.Finish(ctx, t.cfg.ID)
	}
	if err != nil {
		d.logger.Warn("a part of a task's log was not delivered", "task", t.cfg.ID, "error", err)
		d.say(t.cfg, "A part of the log was not delivered: %s", err)
		t.setLogError(fmt.Errorf("delivering its log: %w", err))
	}
	return stderr
}

// watchDrops has people told when lines of tasks' logs are dropped, from the first followed task until the driver ends.
func (d *Driver) watchDrops() { d.drops.Do(func() { go d.tellDrops() }) }

// dropsRetry is how long to wait for a log process that is not there, and for tasks to be recovered.
const dropsRetry = 5 * time.Second

func (d *Driver) tellDrops() {
	var told []logs.Drop
	for d.ctx.Err() == nil {
		drops, err := d.current().logs.Drops(d.ctx, told)
		if err == nil {
			told = nil
		}
		for _, drop := range drops {
			if task, found := d.tasks.get(drop.Task); found {
				d.say(task.cfg, "Nomad does not read the log fast enough: the oldest %s of what waited for it were dropped", units.BytesSize(float64(drop.Bytes)))
				told = append(told, drop)
			}
		}
		if err == nil && len(told) == len(drops) {
			continue
		}
		select {
		case <-time.After(dropsRetry):
		case <-d.ctx.Done():
		}
	}
}
