package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// RunTestSubcommand is the one that the container of RunTest runs, and RunTestMain its body.
const RunTestSubcommand = "run-test"

// What the two sides of a run test agree on.
const (
	// The environment variables with the directories that Nomad gives a task.
	allocDirEnv   = "NOMAD_ALLOC_DIR"
	localDirEnv   = "NOMAD_TASK_DIR"
	secretsDirEnv = "NOMAD_SECRETS_DIR"

	secretFile = "secret" // in the secrets directory
	readyFile  = "ready"  // in the allocation's
	// runTestExit is the exit code at SIGTERM: none that anybody would make up.
	runTestExit = 7
)

// outputOf is what the program writes to its streams.
func outputOf(secret string) map[string]string {
	return map[string]string{"stdout": "stdout: " + secret + "\n", "stderr": "stderr: " + secret + "\n"}
}

// RunTestMain does what tasks do, and waits for the end of ctx, which SIGTERM should bring. It returns the exit status. In
// case that nobody is left to send a signal it ends by itself.
func RunTestMain(ctx context.Context, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, runTestTimeout)
	defer cancel()
	err := useDirectories(stdout, stderr)
	if err == nil {
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return runTestExit
		}
		err = fmt.Errorf("nobody has stopped it within %s", runTestTimeout)
	}
	_, _ = fmt.Fprintln(stderr, err)
	return 1
}

func useDirectories(stdout, stderr io.Writer) error {
	in := func(variable, name string) string { return filepath.Join(os.Getenv(variable), name) }
	secret, err := os.ReadFile(in(secretsDirEnv, secretFile)) //nolint:gosec // the container's
	if err != nil {
		return err
	}
	if err := os.WriteFile(in(localDirEnv, "file"), secret, 0o600); err != nil { //nolint:gosec // the container's
		return err
	}
	output := outputOf(string(secret))
	_, outErr := io.WriteString(stdout, output["stdout"])
	_, errErr := io.WriteString(stderr, output["stderr"])
	if err := errors.Join(outErr, errErr); err != nil {
		return err
	}
	return os.WriteFile(in(allocDirEnv, readyFile), nil, 0o600) //nolint:gosec // the container's
}
