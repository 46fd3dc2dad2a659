//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/nomad/client/allocdir"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
)

// startPlugin starts a driver of the test's own, which is spoken to as Nomad speaks to one.
func startPlugin(t *testing.T) drivers.DriverPlugin {
	t.Helper()
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: base.Handshake,
		Plugins: map[string]plugin.Plugin{
			base.PluginTypeBase:   &base.PluginBase{},
			base.PluginTypeDriver: drivers.NewDriverPlugin(nil, hclog.NewNullLogger()),
		},
		Cmd:              exec.Command(pluginFile),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Info}),
	})
	t.Cleanup(func() {
		client.Kill()
		// The log process keeps the state directory that it was started with.
		_, _ = try("systemctl", "stop", logUnit) // it may not have been needed
	})
	rpc, err := client.Client()
	must.NoError(t, err)
	dispensed, err := rpc.Dispense(base.PluginTypeDriver)
	must.NoError(t, err)
	driver, ok := dispensed.(drivers.DriverPlugin)
	must.True(t, ok)

	// What Nomad would make of an empty block, but for the state directory.
	config := map[string]any{
		"socket":              []map[string]any{{"name": "default", "host_user": "team-a"}, {"name": "rootful", "host_user": "root"}},
		"rootless":            map[string]any{"linger": true, "min_uid": 1000, "delegation": "warn"},
		"volumes":             map[string]any{"enabled": true},
		"gc":                  map[string]any{"container": true, "dangling_containers": map[string]any{"enabled": true, "creation_grace": "5m"}},
		"client_http_timeout": "60s",
		"state_dir":           t.TempDir(),
	}
	var data []byte
	must.NoError(t, base.MsgPackEncode(&data, config))
	must.NoError(t, driver.SetConfig(&base.Config{ApiVersion: drivers.ApiVersion010, PluginConfig: data}))
	return driver
}

// taskConfig is a task as Nomad hands it to a driver, with its directories and FIFOs. Its output goes to the buffer.
func taskConfig(t *testing.T, config map[string]any) (*drivers.TaskConfig, *output) {
	t.Helper()
	allocID := uuid.Generate()
	cfg := &drivers.TaskConfig{
		ID:      allocID + "/task/" + uuid.Short(),
		AllocID: allocID,
		Name:    "task",
		JobName: "job",
		NodeID:  "a-node",
		Env:     map[string]string{"NOMAD_ALLOC_DIR": "/alloc", "NOMAD_TASK_DIR": "/local", "NOMAD_SECRETS_DIR": "/secrets"},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{
				Cpu:    structs.AllocatedCpuResources{CpuShares: 20},
				Memory: structs.AllocatedMemoryResources{MemoryMB: 32},
			},
			LinuxResources: &drivers.LinuxResources{CPUShares: 20, MemoryLimitBytes: 32 << 20},
		},
	}
	alloc := allocdir.NewAllocDir(hclog.NewNullLogger(), t.TempDir(), allocID)
	t.Cleanup(func() { must.NoError(t, alloc.Destroy()) })
	must.NoError(t, alloc.Build())
	must.NoError(t, alloc.NewTaskDir(cfg.Name).Build(false, nil))
	cfg.AllocDir = alloc.AllocDir
	dirs := cfg.TaskDir()
	cfg.StdoutPath = filepath.Join(dirs.LogDir, ".task.stdout.fifo")
	cfg.StderrPath = filepath.Join(dirs.LogDir, ".task.stderr.fifo")
	out := &output{}
	for _, path := range []string{cfg.StdoutPath, cfg.StderrPath} {
		must.NoError(t, syscall.Mkfifo(path, 0o600))
		out.readers.Go(func() { out.read(path) })
	}
	config["image_pull_timeout"] = "5m"
	must.NoError(t, cfg.EncodeConcreteDriverConfig(config))
	return cfg, out
}

// output collects what a task writes to its FIFOs, as Nomad's logmon does.
type output struct {
	readers sync.WaitGroup
	mu      sync.Mutex
	text    bytes.Buffer
}

func (o *output) read(path string) {
	file, err := os.Open(path)
	if err != nil {
		return
	}
	defer file.Close()
	_, _ = io.Copy(o, file)
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the task to print "+text, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !bytes.Contains(o.text.Bytes(), []byte(text)) {
			return errors.New("it has printed " + o.text.String())
		}
		return nil
	})
}

// trapping is a task that ends with 9 at SIGTERM.
func trapping() map[string]any {
	return map[string]any{"image": "busybox", "command": "sh", "args": trapArgs}
}

var trapArgs = []string{"-c", "trap 'exit 9' TERM; echo ready; while :; do usleep 100000; done"}

// Calls on unknown tasks, called twice, at once and in any order: none hangs, and each answers as Nomad's interface
// says.
func TestPluginCalls(t *testing.T) {
	driver := startPlugin(t)
	const notFound = "task not found"
	unknown := func(t *testing.T, id string) {
		t.Helper()
		_, err := driver.InspectTask(id)
		must.ErrorContains(t, err, notFound)
		must.ErrorContains(t, driver.StopTask(id, time.Second, "SIGTERM"), notFound)
		must.ErrorContains(t, driver.SignalTask(id, "SIGHUP"), notFound)
		must.ErrorContains(t, driver.DestroyTask(id, true), notFound)
	}

	t.Run("an unknown task", func(t *testing.T) { unknown(t, "no/such/task") })

	t.Run("in order, twice", func(t *testing.T) {
		cfg, out := taskConfig(t, trapping())
		_, _, err := driver.StartTask(cfg)
		must.NoError(t, err)
		_, _, err = driver.StartTask(cfg)
		must.ErrorContains(t, err, "is started already")
		out.await(t, "ready")
		for range 2 {
			status, err := driver.InspectTask(cfg.ID)
			must.NoError(t, err)
			must.Eq(t, drivers.TaskStateRunning, status.State)
			must.NoError(t, driver.SignalTask(cfg.ID, "SIGCHLD"))
			must.ErrorContains(t, driver.DestroyTask(cfg.ID, false), "is running")
		}
		first, second := wait(t, driver, cfg.ID), wait(t, driver, cfg.ID)
		for range 2 {
			must.NoError(t, driver.StopTask(cfg.ID, time.Minute, "SIGTERM"))
		}
		for _, results := range []<-chan *drivers.ExitResult{first, second, wait(t, driver, cfg.ID)} {
			must.Eq(t, 9, exitOf(t, results).ExitCode)
		}
		status, err := driver.InspectTask(cfg.ID)
		must.NoError(t, err)
		must.Eq(t, drivers.TaskStateExited, status.State)
		must.Eq(t, 9, status.ExitResult.ExitCode)
		must.NoError(t, driver.SignalTask(cfg.ID, "SIGHUP"))
		must.NoError(t, driver.DestroyTask(cfg.ID, false))
		unknown(t, cfg.ID)
		out.readers.Wait()
	})

	t.Run("at once", func(t *testing.T) {
		cfg, out := taskConfig(t, trapping())
		_, _, err := driver.StartTask(cfg)
		must.NoError(t, err)
		out.await(t, "ready")
		var all sync.WaitGroup
		for range 5 {
			for _, call := range []func() error{
				func() error { return driver.StopTask(cfg.ID, time.Second, "SIGTERM") },
				func() error { return driver.SignalTask(cfg.ID, "SIGTERM") },
				func() error { _, err := driver.InspectTask(cfg.ID); return err },
				func() error { return driver.DestroyTask(cfg.ID, true) },
			} {
				all.Go(func() {
					if err := call(); err != nil && !bytes.Contains([]byte(err.Error()), []byte(notFound)) {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		unknown(t, cfg.ID)
		out.readers.Wait()
	})
}

// foreignState is what HashiCorp's driver keeps in its handles, version 1.
type foreignState struct {
	TaskConfig  map[string]any
	ContainerID string
	StartedAt   time.Time
	Net         *drivers.DriverNetwork
	LogStreamer bool
}

// A container that HashiCorp's driver has started goes on when its binary is replaced by this one.
func TestTakeover(t *testing.T) {
	driver := startPlugin(t)
	config := trapping()
	config["socket"] = "rootful"
	cfg, out := taskConfig(t, config)
	// That driver has conmon write the FIFO.
	root.podman(t, "pull", "--quiet", "busybox")
	id := root.podman(t, append([]string{"run", "--detach", "--name", "task-" + cfg.AllocID,
		"--label", "com.hashicorp.nomad.alloc_id=" + cfg.AllocID, "--log-driver", "k8s-file", "--log-opt", "path=" + cfg.StdoutPath,
		"busybox", "sh"}, trapArgs...)...)
	out.await(t, "stdout F ready")

	handle := drivers.NewTaskHandle(1)
	handle.Config, handle.State = persisted(t, cfg), drivers.TaskStateRunning
	must.NoError(t, handle.SetDriverState(&foreignState{TaskConfig: config, ContainerID: id, StartedAt: time.Now()}))
	must.NoError(t, driver.RecoverTask(handle))
	results := wait(t, driver, cfg.ID)
	status, err := driver.InspectTask(cfg.ID)
	must.NoError(t, err)
	must.Eq(t, drivers.TaskStateRunning, status.State)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	usage, err := driver.TaskStats(ctx, cfg.ID, time.Second)
	must.NoError(t, err)
	must.Positive(t, (<-usage).ResourceUsage.MemoryStats.Usage)
	must.NoError(t, driver.StopTask(cfg.ID, time.Minute, "SIGTERM"))
	must.Eq(t, 9, exitOf(t, results).ExitCode)
	must.NoError(t, driver.DestroyTask(cfg.ID, false))
	must.SliceEmpty(t, root.containers(t))
}

// persisted is what Nomad's client keeps of a task: not the driver's configuration.
func persisted(t *testing.T, cfg *drivers.TaskConfig) *drivers.TaskConfig {
	t.Helper()
	var encoded []byte
	must.NoError(t, base.MsgPackEncode(&encoded, cfg))
	kept := &drivers.TaskConfig{}
	must.NoError(t, base.MsgPackDecode(encoded, kept))
	return kept
}

func wait(t *testing.T, driver drivers.DriverPlugin, id string) <-chan *drivers.ExitResult {
	t.Helper()
	results, err := driver.WaitTask(t.Context(), id)
	must.NoError(t, err)
	return results
}

func exitOf(t *testing.T, results <-chan *drivers.ExitResult) *drivers.ExitResult {
	t.Helper()
	select {
	case exit := <-results:
		must.NotNil(t, exit)
		return exit
	case <-time.After(patience):
		t.Fatal("the task's end was not reported")
		return nil
	}
}
