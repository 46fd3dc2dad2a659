package sockets

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Info is what a podman service says about itself.
type Info struct {
	Version           string // of podman
	APIVersion        string
	Rootless          bool
	CgroupVersion     string // v1 or v2
	CgroupManager     string // systemd or cgroupfs
	OCIRuntime        string // name: crun, runc
	OCIRuntimePath    string
	OCIRuntimeVersion string
	AppArmor          bool
	Seccomp           bool
	SELinux           bool
	Capabilities      string // default ones, comma separated
	NetworkBackend    string // netavark or cni
	Pasta             string // path of the helper, empty when there is none
	Slirp4netns       string // path of the helper, empty when there is none
	StorageDriver     string
	GraphRoot         string // directory of the storage
	RunRoot           string // directory of its state until the next boot
	DatabaseBackend   string // boltdb or sqlite, empty before podman 4.6
	Arch              string
	OS                string
}

// Info asks the service about itself.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var answer struct {
		Host struct {
			Arch            string
			CgroupManager   string
			CgroupVersion   string
			DatabaseBackend string
			NetworkBackend  string
			OS              string
			OCIRuntime      struct{ Name, Path, Version string }
			Pasta           struct{ Executable string }
			Slirp4netns     struct{ Executable string }
			Security        struct {
				AppArmorEnabled bool
				Capabilities    string
				Rootless        bool
				SeccompEnabled  bool
				SELinuxEnabled  bool
			}
		}
		Store   struct{ GraphDriverName, GraphRoot, RunRoot string }
		Version struct{ APIVersion, Version string }
	}
	r := request{what: "asking for its version and features", method: http.MethodGet, path: []string{"info"}}
	if err := c.quick(ctx, r, &answer); err != nil {
		return Info{}, err
	}
	host := &answer.Host
	runtimeVersion, _, _ := strings.Cut(host.OCIRuntime.Version, "\n")
	info := Info{
		Version:           printable(answer.Version.Version),
		APIVersion:        printable(answer.Version.APIVersion),
		Rootless:          host.Security.Rootless,
		CgroupVersion:     printable(host.CgroupVersion),
		CgroupManager:     printable(host.CgroupManager),
		OCIRuntime:        printable(host.OCIRuntime.Name),
		OCIRuntimePath:    printable(host.OCIRuntime.Path),
		OCIRuntimeVersion: printable(runtimeVersion),
		AppArmor:          host.Security.AppArmorEnabled,
		Seccomp:           host.Security.SeccompEnabled,
		SELinux:           host.Security.SELinuxEnabled,
		Capabilities:      printable(host.Security.Capabilities),
		NetworkBackend:    printable(host.NetworkBackend),
		Pasta:             printable(host.Pasta.Executable),
		Slirp4netns:       printable(host.Slirp4netns.Executable),
		StorageDriver:     printable(answer.Store.GraphDriverName),
		GraphRoot:         printable(answer.Store.GraphRoot),
		RunRoot:           printable(answer.Store.RunRoot),
		DatabaseBackend:   printable(host.DatabaseBackend),
		Arch:              printable(host.Arch),
		OS:                printable(host.OS),
	}
	var major int
	if _, err := fmt.Sscanf(info.APIVersion, "%d.", &major); err != nil || major < 4 {
		return Info{}, c.fail(r, fmt.Errorf("API version %q; podman 4.3 or newer is needed", info.APIVersion))
	}
	return info, nil
}

// NetworkExists tells whether the endpoint has a podman network of this name.
func (c *Client) NetworkExists(ctx context.Context, name string) (bool, error) {
	return c.exists(ctx, request{
		what: fmt.Sprintf("looking for network %q", name), method: http.MethodGet, path: []string{"networks", name, "exists"},
	})
}

func (c *Client) exists(ctx context.Context, r request) (bool, error) {
	err := c.quick(ctx, r, nil)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
