package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-podman/allocdir"
	"nomad-driver-podman/driver/config"
	"nomad-driver-podman/driver/spec"
	"nomad-driver-podman/rootless"
	"nomad-driver-podman/sockets"
)

// directories are the bind mounts of a task, with sources as its podman sees them. Until close they may be staged.
type directories struct {
	rootless bool // whether the endpoint is
	mounts   []config.Mount
	warnings []string
	stage    *rootless.Stage
}

// close ends the staging. It may be called again.
func (d *directories) close() error {
	if d == nil || d.stage == nil {
		return nil
	}
	return d.stage.Close()
}

// stageDirectories collects what the task sees of the host: its own three directories, Nomad's volumes, and the
// job's. What only root can reach is staged for the host user while the container starts.
func stageDirectories(cfg *drivers.TaskConfig, binds []config.Mount, node *node, endpoint *sockets.Endpoint) (_ *directories, err error) {
	dirs := &directories{rootless: endpoint.Rootless()}
	defer func() {
		if err != nil {
			err = errors.Join(err, dirs.close())
		}
	}()
	if node.self.IsRoot() {
		if dirs.stage, err = rootless.NewStage(endpoint.User(), stageID(spec.ContainerName(cfg))); err != nil {
			return nil, err
		}
	}
	alloc, err := allocdir.Open(cfg.AllocDir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, alloc.Close()) }()
	for _, own := range []struct {
		name, destination string
		open              func() (*os.File, error)
		kind              allocdir.Kind
	}{
		{"alloc", cfg.Env["NOMAD_ALLOC_DIR"], alloc.Shared, allocdir.Shared},
		{"local", cfg.Env["NOMAD_TASK_DIR"], func() (*os.File, error) { return alloc.Local(cfg.Name) }, allocdir.Plain},
		{"secrets", cfg.Env["NOMAD_SECRETS_DIR"], func() (*os.File, error) { return alloc.Secrets(cfg.Name, node.self.IsRoot()) }, allocdir.Secrets},
	} {
		source, err := own.open()
		if err != nil {
			return nil, err
		}
		err = dirs.addOfAlloc(own.name, source, own.kind, config.Mount{Destination: own.destination})
		if err := errors.Join(err, source.Close()); err != nil {
			return nil, err
		}
	}
	for i, mount := range cfg.Mounts {
		if err := dirs.addNomadMount(fmt.Sprintf("mount-%d", i), mount, node.self); err != nil {
			return nil, err
		}
	}
	for i, bind := range binds {
		if err := dirs.addVolume(fmt.Sprintf("volume-%d", i), bind, cfg.Name, alloc, node); err != nil {
			return nil, err
		}
	}
	return dirs, nil
}

// addOfAlloc adds something of the allocation's directory, as what it is may be mounted.
func (d *directories) addOfAlloc(name string, source *os.File, kind allocdir.Kind, mount config.Mount) error {
	staged := rootless.StageMount{Name: name, Source: source}
	switch {
	case kind == allocdir.Logs:
		staged.ReadOnly = true
		mount.Options = readOnly(mount.Options)
	case kind == allocdir.Shared && d.stage != nil:
		staged.ReadOnlyBelow = allocdir.LogsName
	case kind == allocdir.Shared:
		// The agent is the host user: the task can do no more than that.
		logs := config.Mount{Source: filepath.Join(source.Name(), allocdir.LogsName),
			Destination: filepath.Join(mount.Destination, allocdir.LogsName), Options: []string{"ro"}}
		defer func() { d.mounts = append(d.mounts, logs) }()
	case kind == allocdir.Secrets && d.stage != nil && d.rootless:
		return d.addSecrets(staged, mount)
	}
	return d.add(staged, mount)
}

// addSecrets adds secrets of a rootless task: with root's files as the host user's, and read-only, because what the container's
// root could write there would be root's on the host.
func (d *directories) addSecrets(staged rootless.StageMount, mount config.Mount) error {
	mapped, shown := staged, mount
	mapped.IDMapRoot = true
	shown.Options = append(readOnly(mount.Options), "nosuid", "nodev")
	err := d.add(mapped, shown)
	if errors.Is(err, rootless.ErrIDMapUnsupported) {
		d.warnings = append(d.warnings, "This kernel cannot show root's files in secrets to a rootless task (it needs Linux 6.3); files there must be readable to all")
		return d.add(staged, mount)
	}
	return err
}

// readOnly are mount options with which nothing can be written.
func readOnly(options []string) []string {
	return append(slices.DeleteFunc(slices.Clone(options), func(option string) bool { return option == "rw" || option == "ro" }), "ro")
}

// addNomadMount adds a host volume or another mount that Nomad asks for.
func (d *directories) addNomadMount(name string, mount *drivers.MountConfig, agent rootless.User) error {
	user := agent
	if d.stage != nil {
		user = d.stage.User()
	}
	source, err := user.OpenHostPath(mount.HostPath)
	if d.stage == nil && errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; give host user %s, who runs the agent, access to it", err, agent)
	}
	if err != nil {
		return fmt.Errorf("mount for %s: %w", mount.TaskPath, err)
	}
	options := []string{propagation(mount.PropagationMode)}
	if mount.Readonly {
		options = append(options, "ro")
	}
	err = d.add(rootless.StageMount{Name: name, Source: source, ReadOnly: mount.Readonly}, config.Mount{Destination: mount.TaskPath, Options: options})
	return errors.Join(err, source.Close())
}

// propagation translates Nomad's words into those of mount(8).
func propagation(mode string) string {
	switch mode {
	case "host-to-task":
		return "rslave"
	case "bidirectional":
		return "rshared"
	}
	return "rprivate"
}

// addVolume adds an entry of the job's volumes. A relative source is looked up inside the allocation's directory,
// which no symlink leads out of. An absolute one is the host user's to reach: root's reach is not lent to it.
func (d *directories) addVolume(name string, bind config.Mount, task string, alloc *allocdir.Dir, node *node) error {
	if filepath.IsAbs(bind.Source) {
		if !node.config.Volumes.Enabled {
			return fmt.Errorf("config option %q: %s: paths outside the task's directory are not allowed on this node (plugin option volumes.enabled)", "volumes", bind.Source)
		}
		d.mounts = append(d.mounts, bind)
		return nil
	}
	source, kind, err := alloc.Volume(task, bind.Source)
	if err != nil {
		return fmt.Errorf("config option %q: %s: %w", "volumes", bind.Source, err)
	}
	return errors.Join(d.addOfAlloc(name, source, kind, bind), source.Close())
}

// add makes one mount of an open file or directory, staged when there is a stage. Without one the agent is not root,
// and its own user, who is the host user, reaches the path itself.
func (d *directories) add(source rootless.StageMount, mount config.Mount) error {
	mount.Source = source.Source.Name()
	if d.stage != nil {
		path, err := d.stage.Add(source)
		if err != nil {
			return err
		}
		mount.Source = path
	}
	d.mounts = append(d.mounts, mount)
	return nil
}

// isBelow tells whether a clean path is strictly below another.
func isBelow(path, parent string) bool {
	return parent != "" && strings.HasPrefix(path, strings.TrimSuffix(parent, "/")+"/")
}
