package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containers/image/v5/docker/reference"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"

	"nomad-driver-podman/fuzz"
)

// fuzzed is a task with these resources.
func fuzzed(memoryMB, maxMB int64) *drivers.TaskConfig {
	return &drivers.TaskConfig{Resources: &drivers.Resources{NomadResources: &structs.AllocatedTaskResources{
		Memory: structs.AllocatedMemoryResources{MemoryMB: memoryMB, MemoryMaxMB: maxMB},
	}}}
}

// checkTask makes sure of what the driver counts on in a config block that was let through, and that an error about one that
// was not is short and printable.
func checkTask(t *testing.T, task *Task, err error) {
	t.Helper()
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fuzz.Line(t, strings.TrimSuffix(line, "\n"), maxError)
		}
		must.LessEq(t, maxError, len(err.Error()))
		return
	}
	named, err := reference.ParseNormalizedNamed(task.ImageReference())
	must.NoError(t, err)
	must.True(t, !strings.HasPrefix(task.Image, "docker://") || !reference.IsNameOnly(named))
	must.True(t, len(task.Volumes) == len(task.Binds) && len(task.Tmpfs) == len(task.TmpfsMounts))
	for i, mount := range slices.Concat(task.Binds, task.TmpfsMounts) {
		parts := []string{mount.Destination}
		if i < len(task.Binds) {
			must.NotEq(t, "", mount.Source)
			parts = []string{mount.Source, mount.Destination}
		}
		if mount.Options != nil {
			parts = append(parts, strings.Join(mount.Options, ","))
		}
		must.EqOp(t, slices.Concat(task.Volumes, task.Tmpfs)[i], strings.Join(parts, ":"))
		must.StrHasPrefix(t, "/", mount.Destination)
	}
	mode, _, _ := strings.Cut(task.NetworkMode, ":")
	must.SliceContains(t, slices.Collect(maps.Keys(networkModes)), mode)
	must.Between(t, minCFSPeriod, task.CPUCFSPeriod, maxCFSPeriod)
	must.Positive(t, task.PullTimeout)
	must.GreaterEq(t, -1, task.PIDsLimit)
	m := task.Memory
	must.True(t, m.Limit >= 0 && m.Reservation >= 0, must.Sprint(m))
	must.True(t, m.Limit == 0 || m.Reservation <= m.Limit, must.Sprint(m))
	must.True(t, m.Swap == -1 || m.Swap == 0 || m.Swap >= m.Limit && m.Limit > 0, must.Sprint(m))
	must.SliceContains(t, []string{"", LogNomad, LogJournald}, task.Logging.Driver)
	for _, port := range task.PortMap {
		must.Between(t, 1, port, 65535)
	}
	for _, warning := range task.Warnings {
		fuzz.Line(t, warning, maxError)
	}
}

// FuzzTask is a config block of any options, with values of any types.
func FuzzTask(f *testing.F) {
	for _, block := range []string{
		`{"image":"docker://redis:7","command":"redis-server","args":["--port","6379"],"ports":["db"],"image_pull_timeout":"5m",
		 "volumes":["/srv:/data:ro,noexec","local/x:/x"],"tmpfs":["/tmp:size=64k"],"network_mode":"slirp4netns:mtu=1500",
		 "logging":[{"driver":"journald","options":[{"tag":"x"}]}],"memory_reservation":"32m","memory_swap":"256m","pids_limit":50,
		 "labels":[{"a":"b"}],"auth":{"username":"u","password":"p","tls_verify":false},"cap_add":["net_admin"]}`,
		`{"image":"redis","image_pull_timeout":"1s","entrypoint":["/bin/sh",7],"port_map":[{"\u001b[31m":99999}],"memory_hard_limit":-1,"cpu_cfs_period":1}`,
		`{"image":"redis","image_pull_timeout":"1s","entrypoint":"/bin/sh","logging":{"type":"journald","config":{"tag":{}}},"memory_swappiness":101}`,
		`{"image":"\n","image_pull_timeout":"1","entrypoint":[["\u001b"]],"logging":[[[{}]]],"socket":"a","host_user":"b","init_path":"x","working_dir":"y"}`,
	} {
		f.Add([]byte(block), int64(64), int64(128))
	}
	f.Add([]byte(`{"image":"a","image_pull_timeout":"1s","memory_hard_limit":9223372036854775807,"memory_swap":"8g"}`), int64(-1), int64(1<<62))
	f.Fuzz(func(t *testing.T, block []byte, memoryMB, maxMB int64) {
		var value map[string]any
		cfg := fuzzed(memoryMB, maxMB)
		if json.Unmarshal(block, &value) != nil || cfg.EncodeConcreteDriverConfig(value) != nil {
			return
		}
		fuzz.Cheap(t, len(block), 1<<10, func() {
			task, err := DecodeTask(cfg)
			checkTask(t, task, err)
		})
	})
}

// FuzzOptions has each option that is text say something, in a config block that is fine otherwise.
func FuzzOptions(f *testing.F) {
	for _, text := range []string{
		"docker://redis", "docker.io/library/redis@sha256:" + strings.Repeat("0f", 32), "docker-archive:/x", "docker://docker://x", "docker:/x",
		"/srv:/data:ro,noexec", "a:/b:", ":/b", "a:/b:c:d", "/tmp:size=64k", "pasta:-T,8080", "slirp4netns:", "container:x", "128m", "1e30g", "0x1p60", "nan 1", "-1",
		"90s", "9e99h", "journald", "\n", strings.Repeat("\x1b", 2000), strings.Repeat("\xff", 2000),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, set := range []func(*Task){
			func(task *Task) { task.Image = text },
			func(task *Task) { task.Volumes = []string{"/a:/b", text} },
			func(task *Task) { task.Tmpfs = []string{text, "/c"} },
			func(task *Task) { task.NetworkMode = text },
			func(task *Task) { task.MemorySwap = text },
			func(task *Task) { task.MemoryReserved = text },
			func(task *Task) { task.ImagePullTimeout = text },
			func(task *Task) { task.EntrypointRaw = text },
			func(task *Task) { task.InitPath, task.WorkingDir = text, text },
			func(task *Task) { task.LoggingRaw = map[string]any{"driver": []byte(text)} },
			func(task *Task) {
				task.LoggingRaw = map[string]any{"type": "journald", text: map[string]any{text: text}}
			},
			func(task *Task) { task.PortMap = map[string]int{text: 70000} },
		} {
			task := &Task{Image: "redis", ImagePullTimeout: "5m"}
			set(task)
			fuzz.Cheap(t, len(text), 1<<10, func() { checkTask(t, task, task.parse(fuzzed(64, 128))) })
		}
	})
}
