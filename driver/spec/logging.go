package spec

import (
	"os"

	"github.com/containers/podman/v4/libpod/define"
	"github.com/containers/podman/v4/pkg/specgen"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/driver/config"
)

// Sizes in bytes at which conmon replaces a log file with a new one, losing what is in it. One is always given, since
// a host user's containers.conf may set a small one, or none.
const (
	// followedLogSize is never reached: the log process keeps the file short.
	followedLogSize = 1 << 60
	// unfollowedLogSize is for a file that nobody else keeps short.
	unfollowedLogSize = 16 << 20
)

// logging is where the container's output goes.
func logging(spec *Spec, in Input) {
	log := &specgen.LogConfig{}
	switch {
	case in.Logging.Driver == config.LogJournald:
		log.Driver, log.Options = define.JournaldLogging, in.Logging.Options
	case NoLogs(in.Task):
		log.Driver = define.NoLogging
	case in.Uncollected:
		// What collects logs on the host instead expects them where the host user's podman puts them by default.
		log.Size = unfollowedLogSize
	default:
		// In podman's own place for it, and in the format that the log process follows.
		log.Driver, log.Size = define.KubernetesLogging, followedLogSize
	}
	spec.LogConfiguration = log
}

// NoLogs tells whether the job wants no logs of the task (logs { disabled = true }).
func NoLogs(task *drivers.TaskConfig) bool {
	return task.StdoutPath == os.DevNull && task.StderrPath == os.DevNull
}
