package spec

import (
	"fmt"

	"github.com/containers/podman/v4/pkg/specgen"

	"nomad-driver-podman/sockets"
)

// security is what the container may do. Every mode is given, never left out: what is left out comes from the host
// user's containers.conf, where it may be "host".
func security(spec *Spec, in Input) {
	cfg := in.Config
	private := specgen.Namespace{NSMode: specgen.Private}
	spec.PidNS = private
	spec.IpcNS = private
	spec.UtsNS = private
	spec.CgroupNS = private
	spec.UserNS = specgen.Namespace{NSMode: specgen.Host}
	spec.CgroupsMode = "enabled"
	spec.Umask = "0022"
	spec.Privileged = cfg.Privileged
	spec.CapAdd = cfg.CapAdd
	spec.CapDrop = cfg.CapDrop
	spec.ReadOnlyFilesystem = cfg.ReadonlyRootfs
}

// Verify compares a created container with what was asked. The API cannot say "not privileged" (false is left out of
// the request), so a containers.conf that says otherwise is found here, before the container starts.
func (s *Spec) Verify(container *sockets.Container) error {
	if got := container.HostConfig.Privileged; got != s.Privileged {
		return fmt.Errorf("podman made the container with privileged = %t, but the task asks for %t: remove \"privileged\" from the host user's containers.conf", got, s.Privileged)
	}
	return nil
}
