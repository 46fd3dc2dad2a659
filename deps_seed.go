// Package main pins dependencies until the packages that use them exist.
package main

import (
	_ "github.com/containerd/cgroups/v3/cgroup2"
	_ "github.com/containers/podman/v4/pkg/bindings/containers"
	_ "github.com/containers/podman/v4/pkg/bindings/images"
	_ "github.com/coreos/go-systemd/v22/activation"
	_ "github.com/coreos/go-systemd/v22/daemon"
	_ "github.com/coreos/go-systemd/v22/dbus"
	_ "github.com/coreos/go-systemd/v22/login1"
	_ "github.com/coreos/go-systemd/v22/unit"
	_ "github.com/containers/image/v5/docker/reference"
	_ "github.com/docker/go-units"
	_ "github.com/fsnotify/fsnotify"
	_ "github.com/godbus/dbus/v5"
	_ "github.com/hashicorp/nomad/api"
	_ "github.com/hashicorp/nomad/drivers/shared/eventer"
	_ "github.com/hashicorp/nomad/plugins"
	_ "github.com/hashicorp/nomad/plugins/drivers"
	_ "github.com/hashicorp/nomad/plugins/drivers/utils"
	_ "github.com/opencontainers/selinux/go-selinux"
	_ "github.com/shoenig/test/must"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/sync/singleflight"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/term"
)

func main() {}
