package spec

import (
	"slices"

	runtime "github.com/opencontainers/runtime-spec/specs-go"
)

// mounts is what the container sees of the host, and its temporary file systems.
func mounts(spec *Spec, in Input) {
	for _, mount := range in.Mounts {
		options := mount.Options
		if !slices.Contains(options, "bind") {
			options = append([]string{"rbind"}, options...)
		}
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: "bind", Source: mount.Source, Destination: mount.Destination, Options: options})
	}
	for _, tmpfs := range in.Config.TmpfsMounts {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Type: "tmpfs", Source: "tmpfs", Destination: tmpfs.Destination, Options: tmpfs.Options})
	}
}
