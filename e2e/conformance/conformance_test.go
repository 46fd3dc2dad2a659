// Package conformance runs the tests that Nomad has for all its drivers against the built plugin. It is a module of its
// own, since those tests need other versions of some modules than podman's bindings do. It runs in the lab, as root:
//
//	make test-e2e RUN=TestConformance
package conformance

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"
	"github.com/shoenig/test/must"
)

const (
	pluginFile = "/opt/nomad/plugins/nomad-driver-podman"
	patience   = 10 * time.Minute
)

// TestMain lets no agent of Nomad run beside these tests: a node has one process of the plugin.
func TestMain(m *testing.M) {
	code := 1
	if agent("stop") {
		code = m.Run()
		if !agent("start") {
			code = 1
		}
	}
	os.Exit(code)
}

func agent(verb string) bool {
	out, err := exec.Command("systemctl", verb, "nomad.service").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "systemctl %s nomad.service: %v: %s\n", verb, err, out)
	}
	return err == nil
}

// podman is the driver in a process of the plugin.
type podman struct {
	drivers.DriverPlugin
	drivers.ExecTaskStreamingRawDriver
}

// PluginInfo says that the driver is Docker's. Nomad's tests look for the name of a command's cgroup in the container,
// except with Docker, because there containers have cgroup namespaces, in which it cannot be seen. So have podman's.
func (p podman) PluginInfo() (*base.PluginInfoResponse, error) {
	info, err := p.DriverPlugin.PluginInfo()
	if err == nil {
		info.Name = "docker"
	}
	return info, err
}

// start starts the plugin as Nomad does.
func start(t *testing.T) podman {
	t.Helper()
	logger := hclog.New(&hclog.LoggerOptions{Name: "plugin", Level: hclog.Info, Output: os.Stderr})
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: base.Handshake,
		Plugins: plugin.PluginSet{
			base.PluginTypeBase:   &base.PluginBase{},
			base.PluginTypeDriver: drivers.NewDriverPlugin(nil, logger),
		},
		Cmd:              exec.Command(pluginFile),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           logger,
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	must.NoError(t, err)
	raw, err := rpc.Dispense(base.PluginTypeDriver)
	must.NoError(t, err)
	driver, is := raw.(interface {
		drivers.DriverPlugin
		drivers.ExecTaskStreamingRawDriver
	})
	must.True(t, is)

	// What Nomad would make of an empty block, but for the sockets.
	var config []byte
	must.NoError(t, base.MsgPackEncode(&config, map[string]any{
		"socket":              []map[string]any{{"name": "rootless", "host_user": "team-a"}, {"name": "rootful", "host_user": "root"}},
		"rootless":            map[string]any{"linger": true, "min_uid": 1000, "delegation": "warn"},
		"volumes":             map[string]any{"enabled": true},
		"gc":                  map[string]any{"container": true, "dangling_containers": map[string]any{"enabled": true, "creation_grace": "5m"}},
		"client_http_timeout": "60s",
	}))
	must.NoError(t, driver.SetConfig(&base.Config{ApiVersion: drivers.ApiVersion010, PluginConfig: config}))
	return podman{driver, driver}
}

// task runs a container on one of the plugin's sockets until the test ends. It returns Nomad's harness for it, which is
// good for one task, and the task's ID.
func (p podman) task(t *testing.T, socket string, dns *drivers.DNSConfig) (*testutils.DriverHarness, string) {
	t.Helper()
	alloc := uuid.Generate()
	config := &drivers.TaskConfig{
		ID:      alloc + "/conformance",
		AllocID: alloc,
		Name:    "conformance",
		DNS:     dns,
		Resources: &drivers.Resources{NomadResources: &structs.AllocatedTaskResources{
			Cpu:    structs.AllocatedCpuResources{CpuShares: 100},
			Memory: structs.AllocatedMemoryResources{MemoryMB: 64},
		}},
	}
	must.NoError(t, config.EncodeConcreteDriverConfig(map[string]any{
		"image": "busybox", "command": "sleep", "args": []string{"100000"}, "socket": socket, "image_pull_timeout": "5m",
	}))
	harness := testutils.NewDriverHarness(t, p)
	t.Cleanup(harness.Kill)
	t.Cleanup(harness.MkAllocDir(config, true))
	_, _, err := harness.StartTask(config)
	must.NoError(t, err)
	t.Cleanup(func() { must.NoError(t, harness.DestroyTask(config.ID, true)) })
	must.NoError(t, harness.WaitUntilStarted(config.ID, patience))
	return harness, config.ID
}

func TestConformanceExec(t *testing.T) {
	driver := start(t)
	for _, socket := range []string{"rootless", "rootful"} {
		t.Run(socket, func(t *testing.T) {
			harness, id := driver.task(t, socket, nil)
			testutils.ExecTaskStreamingConformanceTests(t, harness, id)
			t.Run("more input than the command takes", func(t *testing.T) {
				code, _, _ := testutils.ExecTask(t, harness, id, "head -c 3; exit 4", false, strings.Repeat("y", 1<<20))
				must.Eq(t, 4, code)
			})
			t.Run("cancelled", func(t *testing.T) { driver.cancelled(t, harness, id) })
		})
	}
}

// silent is the stream of somebody who only looks on, until a command prints something.
type silent struct {
	ctx    context.Context
	prints context.CancelFunc
}

func (s silent) Recv() (*drivers.ExecTaskStreamingRequestMsg, error) {
	<-s.ctx.Done()
	return nil, io.EOF
}

func (s silent) Send(message *drivers.ExecTaskStreamingResponseMsg) error {
	if message.Stdout != nil && len(message.Stdout.Data) > 0 {
		s.prints()
	}
	return nil
}

// cancelled ends a command that prints nothing any more and has a child.
func (p podman) cancelled(t *testing.T, harness *testutils.DriverHarness, id string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := p.ExecTaskStreamingRaw(ctx, id, []string{"sh", "-c", "sleep 4001 & echo ready; sleep 4002"}, false, silent{ctx, cancel})
	must.ErrorContains(t, err, "context canceled")

	deadline := time.Now().Add(patience)
	for {
		_, processes, _ := testutils.ExecTask(t, harness, id, "ps -o args", false, "")
		must.StrContains(t, processes, "sleep 100000")
		if !strings.Contains(processes, "sleep 400") {
			return
		}
		must.True(t, time.Now().Before(deadline), must.Sprintf("the command still runs:\n%s", processes))
	}
}

// Without a dns block podman writes the container's resolv.conf in a way of its own, which Nomad's test does not expect:
// rootless containers get a name server of pasta's besides the host's, and "search ." is left out.
func TestConformanceDNS(t *testing.T) {
	driver := start(t)
	for name, dns := range map[string]*drivers.DNSConfig{
		"servers": {Servers: []string{"1.1.1.1", "1.0.0.1"}},
		"all":     {Servers: []string{"1.1.1.1"}, Searches: []string{"local.test", "node.consul"}, Options: []string{"ndots:2", "edns0"}},
	} {
		for _, socket := range []string{"rootless", "rootful"} {
			t.Run(socket+" "+name, func(t *testing.T) {
				harness, id := driver.task(t, socket, dns)
				testutils.TestTaskDNSConfig(t, harness, id, dns)
			})
		}
	}
}
