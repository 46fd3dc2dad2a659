#!/bin/bash
# Podman's system-wide configuration: docker.io is the registry on this machine,
# so that image = "docker://redis" works without any other.
set -eu

mkdir -p /etc/containers/registries.conf.d
cat >/etc/containers/registries.conf.d/50-lab.conf <<'CONF'
unqualified-search-registries = ["docker.io"]

# Not a mirror: what is missing here must fail at once, not after a
# time-out of the real one.
[[registry]]
prefix = "docker.io"
location = "127.0.0.1:5000"
insecure = true

[[registry]]
location = "127.0.0.1:5000"
insecure = true
CONF

# Podman of Debian 12 takes vfs when nothing is said. Newer ones take overlay, and take
# a system-wide runroot for the one of every user.
if [ ! -e /etc/containers/storage.conf ] && podman --version | grep -q ' 4\.'; then
    cat >/etc/containers/storage.conf <<'CONF'
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
CONF
fi

# Nothing of podman starts by itself.
systemctl disable --now --quiet podman.service podman.socket podman-restart.service podman-auto-update.timer
systemctl disable --now --quiet netavark-dhcp-proxy.socket netavark-dhcp-proxy.service 2>/dev/null || true
