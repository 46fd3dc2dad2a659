package driver

import (
	"context"
	"path/filepath"
	"time"

	"github.com/docker/go-units"

	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/logs"
)

// logging is the task's logging block, else the plugin's.
func (s *start) logging() config.Logging {
	if s.conf.Logging.Driver != "" {
		return s.conf.Logging
	}
	return s.node.config.Logging
}

// collectsLog tells whether the task's log goes to Nomad.
func (s *start) collectsLog() bool { return !s.node.config.DisableLogs && !spec.NoLogs(s.cfg) }

func (s *start) ensureLogs(ctx context.Context) error {
	if !s.collectsLog() {
		return nil
	}
	return s.node.ensureLogs(ctx)
}

func (s *start) followLog(ctx context.Context) error {
	if !s.collectsLog() {
		return nil
	}
	request := logs.FollowRequest{
		Task:   s.cfg.ID,
		UID:    s.endpoint.User().UID,
		Stdout: s.cfg.StdoutPath,
		Stderr: s.cfg.StderrPath,
	}
	if s.logging().Driver == config.LogJournald {
		request.Container = s.id
	} else {
		request.File = filepath.Clean(s.logPath)
	}
	s.undo = append(s.undo, func(ctx context.Context) error { return s.node.logs.Finish(ctx, s.cfg.ID) })
	if err := s.node.logs.Follow(ctx, request); err != nil {
		return err
	}
	s.task.state.LogFollowed = true
	s.driver.watchDrops()
	return nil
}

// finishLog has the rest of an ended task's log delivered.
func (d *Driver) finishLog(ctx context.Context, t *task) {
	if !t.state.LogFollowed {
		return
	}
	if err := d.current().logs.Finish(ctx, t.cfg.ID); err != nil {
		d.logger.Warn("a part of a task's log was not delivered", "task", t.cfg.ID, "error", err)
		d.say(t.cfg, "A part of the log was not delivered: %s", err)
	}
}

// watchDrops has people told when lines of tasks' logs are dropped, from the first followed task until the driver ends.
func (d *Driver) watchDrops() { d.drops.Do(func() { go d.tellDrops() }) }

// dropsRetry is how long to wait for a log process that is not there, and for tasks to be recovered.
const dropsRetry = 5 * time.Second

func (d *Driver) tellDrops() {
	var told []logs.Drop
	for d.ctx.Err() == nil {
		drops, err := d.current().logs.Drops(d.ctx, told)
		told = nil
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
