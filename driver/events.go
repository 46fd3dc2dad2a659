package driver

import (
	"fmt"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// say shows a sentence in the task's events.
func (d *Driver) say(task *drivers.TaskConfig, format string, args ...any) {
	event := &drivers.TaskEvent{
		TaskID:    task.ID,
		TaskName:  task.Name,
		AllocID:   task.AllocID,
		Timestamp: time.Now(),
		Message:   fmt.Sprintf(format, args...),
	}
	if err := d.events.EmitEvent(event); err != nil {
		// Not the message, which may be the task's own words.
		d.logger.Warn("a task event was lost", "task", task.ID, "error", err)
	}
}
