#!/bin/bash
# Debian's docker-registry, without the password that its packaged configuration
# asks for, on the loopback address only.
set -eu

cat >/etc/docker/registry/lab.yml <<'CONF'
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: /var/lib/docker-registry
  delete:
    enabled: true
http:
  addr: 127.0.0.1:5000
CONF

mkdir -p /etc/systemd/system/docker-registry.service.d
cat >/etc/systemd/system/docker-registry.service.d/lab.conf <<'CONF'
[Service]
ExecStart=
ExecStart=/usr/bin/docker-registry serve /etc/docker/registry/lab.yml
CONF

systemctl daemon-reload
systemctl enable --quiet docker-registry.service
systemctl restart docker-registry.service
curl --silent --fail --retry 60 --retry-delay 1 --retry-connrefused http://127.0.0.1:5000/v2/ >/dev/null
