package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/containers/image/v5/docker/reference"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// Task is a task's config block.
type Task struct {
	Image            string             `codec:"image"`
	Command          string             `codec:"command"`
	Args             []string           `codec:"args"`
	EntrypointRaw    any                `codec:"entrypoint"`
	WorkingDir       string             `codec:"working_dir"`
	Labels           hclutils.MapStrStr `codec:"labels"`
	Hostname         string             `codec:"hostname"`
	Init             bool               `codec:"init"`
	InitPath         string             `codec:"init_path"`
	Volumes          []string           `codec:"volumes"`
	Tmpfs            []string           `codec:"tmpfs"`
	Ports            []string           `codec:"ports"`
	PortMap          hclutils.MapStrInt `codec:"port_map"`
	NetworkMode      string             `codec:"network_mode"`
	LoggingRaw       any                `codec:"logging"`
	CPUHardLimit     bool               `codec:"cpu_hard_limit"`
	CPUCFSPeriod     int64              `codec:"cpu_cfs_period"`
	MemoryHardLimit  int64              `codec:"memory_hard_limit"`
	MemoryReserved   string             `codec:"memory_reservation"`
	MemorySwap       string             `codec:"memory_swap"`
	MemorySwappiness *int64             `codec:"memory_swappiness"`
	PIDsLimit        int64              `codec:"pids_limit"`
	Privileged       bool               `codec:"privileged"`
	CapAdd           []string           `codec:"cap_add"`
	CapDrop          []string           `codec:"cap_drop"`
	ReadonlyRootfs   bool               `codec:"readonly_rootfs"`
	ForcePull        bool               `codec:"force_pull"`
	ImagePullTimeout string             `codec:"image_pull_timeout"`
	Auth             Auth               `codec:"auth"`
	Socket           string             `codec:"socket"`
	HostUser         string             `codec:"host_user"`

	// Entrypoint, PullTimeout, Logging, Binds and TmpfsMounts are EntrypointRaw, ImagePullTimeout, LoggingRaw, Volumes
	// and Tmpfs, parsed.
	Entrypoint  []string      `codec:"-"`
	PullTimeout time.Duration `codec:"-"`
	Logging     Logging       `codec:"-"`
	Binds       []Mount       `codec:"-"`
	TmpfsMounts []Mount       `codec:"-"`
	// Memory is what the memory options and the task's resources make together.
	Memory Memory `codec:"-"`
	// Warnings are things the job should change, though it runs.
	Warnings []string `codec:"-"`
}

// Auth is the auth block: credentials for an image's registry.
type Auth struct {
	Username  string `codec:"username"`
	Password  string `codec:"password"`
	TLSVerify *bool  `codec:"tls_verify"`
}

// Mount is one entry of volumes or tmpfs. A tmpfs has no Source.
type Mount struct {
	Source      string
	Destination string
	Options     []string
}

// DecodeTask reads a task's config block and checks everything about it that can be told without the host.
// The error names each wrong option and what is allowed.
func DecodeTask(cfg *drivers.TaskConfig) (*Task, error) {
	task := &Task{}
	if err := cfg.DecodeDriverConfig(task); err != nil {
		return nil, brief(fmt.Errorf("config: %w", err))
	}
	return task, task.parse(cfg)
}

// maxError bounds an error about a config block, in bytes: it becomes an event, and a job may have a thousand wrong volumes.
const maxError = 4 << 10

// brief keeps what an error repeats of a job from being long, and from more than a line for each option.
func brief(err error) error {
	if err == nil {
		return nil
	}
	text := strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, err.Error())
	if len(text) > maxError {
		const end = "…"
		text = strings.ToValidUTF8(text[:maxError-len(end)], "") + end
	}
	return errors.New(text)
}

func (t *Task) parse(cfg *drivers.TaskConfig) error {
	var errs []error
	wrong := func(option, format string, args ...any) {
		errs = append(errs, fmt.Errorf("config option %q: "+format, append([]any{option}, args...)...))
	}
	if err := checkImage(t.Image); err != nil {
		wrong("image", "%w", err)
	}
	if timeout, err := parseDuration(t.ImagePullTimeout); err != nil {
		wrong("image_pull_timeout", "%w", err)
	} else {
		t.PullTimeout = timeout
	}
	if err := t.parseEntrypoint(); err != nil {
		wrong("entrypoint", "%w", err)
	}
	logging, err := parseLogging(t.LoggingRaw)
	if err != nil {
		wrong("logging", "%w", err)
	}
	t.Logging = logging
	for _, volume := range t.Volumes {
		mount, err := parseMount(volume, true)
		if err != nil {
			wrong("volumes", "%w", err)
		}
		t.Binds = append(t.Binds, mount)
	}
	for _, tmpfs := range t.Tmpfs {
		mount, err := parseMount(tmpfs, false)
		if err != nil {
			wrong("tmpfs", "%w", err)
		}
		t.TmpfsMounts = append(t.TmpfsMounts, mount)
	}
	if t.Socket != "" && t.HostUser != "" {
		wrong("host_user", "cannot stand together with %q: a socket block has its own host user; keep one of the two", "socket")
	}
	if t.InitPath != "" && !filepath.IsAbs(t.InitPath) {
		wrong("init_path", "%q is not an absolute path on the host", t.InitPath)
	}
	if t.WorkingDir != "" && !filepath.IsAbs(t.WorkingDir) {
		wrong("working_dir", "%q is not an absolute path in the container", t.WorkingDir)
	}
	if len(t.Ports) > 0 && len(t.PortMap) > 0 {
		wrong("port_map", "cannot stand together with %q; port_map is deprecated, keep ports", "ports")
	}
	for label, port := range t.PortMap {
		if port < 1 || port > 65535 {
			wrong("port_map", "%q = %d is not a port (1 to 65535)", label, port)
		}
	}
	if err := checkNetworkMode(t.NetworkMode); err != nil {
		wrong("network_mode", "%w", err)
	}
	t.parseLimits(cfg, wrong)
	return brief(errors.Join(errs...))
}

// parseEntrypoint takes the list form, and the string form of old jobs.
func (t *Task) parseEntrypoint() error {
	switch raw := t.EntrypointRaw.(type) {
	case nil:
	case string:
		t.Entrypoint = []string{raw}
		t.Warnings = append(t.Warnings, fmt.Sprintf("config option %q should be a list of strings; a string is taken as the program's path", "entrypoint"))
	case []byte:
		t.EntrypointRaw = string(raw)
		return t.parseEntrypoint()
	case []any:
		for _, element := range raw {
			switch word := element.(type) {
			case string:
				t.Entrypoint = append(t.Entrypoint, word)
			case []byte:
				t.Entrypoint = append(t.Entrypoint, string(word))
			default:
				return fmt.Errorf("must be a list of strings, but holds %q", fmt.Sprint(element))
			}
		}
	default:
		return fmt.Errorf("must be a list of strings, not %q", fmt.Sprint(raw))
	}
	return nil
}

// checkImage refuses names that no registry could know, before anything is created.
func checkImage(image string) error {
	if image == "" {
		return errors.New(`is required, for example "docker://redis:7"`)
	}
	if transport, _, found := strings.Cut(image, "://"); found && transport != "docker" {
		return fmt.Errorf("%q: transport %q is not supported; use docker://name[:tag] or a plain name", image, transport)
	}
	if transport, _, found := strings.Cut(image, ":/"); found && transport != "docker" {
		return fmt.Errorf("%q: transport %q is not supported; use docker://name[:tag] or a plain name", image, transport)
	}
	if _, err := reference.ParseNormalizedNamed(strings.TrimPrefix(image, "docker://")); err != nil {
		return fmt.Errorf("%q is not an image reference (name[:tag][@digest]): %w", image, err)
	}
	return nil
}

// ImageReference is the reference that podman is asked for. A docker:// name is completed as docker does; a plain
// name goes to podman as it is, whose registries.conf resolves short names.
func (t *Task) ImageReference() string {
	name, docker := strings.CutPrefix(t.Image, "docker://")
	if !docker {
		return t.Image
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name // not reached: checkImage parsed the same
	}
	return reference.TagNameOnly(named).String()
}

// parseMount reads source:destination[:options], or destination[:options] when there is no source.
func parseMount(text string, hasSource bool) (Mount, error) {
	fields := strings.Split(text, ":")
	var mount Mount
	form := "destination[:options]"
	if hasSource {
		form = "source:destination[:options]"
		mount.Source, fields = fields[0], fields[1:]
		if mount.Source == "" {
			return mount, fmt.Errorf("%q has no source; the form is %s", text, form)
		}
	}
	if len(fields) < 1 || len(fields) > 2 {
		return mount, fmt.Errorf("%q is malformed; the form is %s", text, form)
	}
	mount.Destination = fields[0]
	if !filepath.IsAbs(mount.Destination) {
		return mount, fmt.Errorf("%q: the destination %q must be an absolute path; the form is %s", text, mount.Destination, form)
	}
	if len(fields) == 2 {
		mount.Options = strings.Split(fields[1], ",")
	}
	return mount, nil
}

// networkModes are the modes with a name of their own; those with true take options after a colon.
var networkModes = map[string]bool{"": false, "bridge": false, "host": false, "none": false, "private": false, "slirp4netns": true, "pasta": true}

func checkNetworkMode(mode string) error {
	name, _, options := strings.Cut(mode, ":")
	if takesOptions, known := networkModes[name]; !known || options && !takesOptions {
		return fmt.Errorf("%q is not known; use bridge, host, none, private, slirp4netns[:options] or pasta[:options]", mode)
	}
	return nil
}

// parseDuration takes Go's durations above zero.
func parseDuration(text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as \"90s\" or \"5m\": %w", text, err)
	}
	if duration <= 0 {
		return 0, fmt.Errorf("%q must be more than zero", text)
	}
	return duration, nil
}
