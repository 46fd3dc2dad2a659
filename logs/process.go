package logs

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"
)

// ServeConfig configures the log process.
type ServeConfig struct {
	// Socket is the path of the control socket. Its directory is made, and must be, its owner's only.
	Socket string
	// StateDir holds what must survive a restart; root's (or the agent's user's) only.
	StateDir string
	Logger   hclog.Logger
}

// Requests of the control socket. All are idempotent.
const (
	pathFollow = "/follow"
	pathFinish = "/finish"
	pathTasks  = "/tasks"
	pathBuild  = "/build"
)

// finishRequest is the body of pathFinish. The process keeps to Timeout also when its client is gone.
type finishRequest struct {
	Task    string        `json:"task"`
	Timeout time.Duration `json:"timeout"`
}

// maxFinish bounds a Finish whose caller gave no deadline.
const maxFinish = 30 * time.Second

// Serve runs the log process until ctx ends.
func Serve(ctx context.Context, c ServeConfig) error {
	<-ctx.Done()
	return nil
}
