#!/bin/bash
# Nomad as two agents: nomad-server.service keeps its answers and its jobs while
# nomad.service, the client, is restarted. The driver is not installed: it goes to
# /opt/nomad/plugins/nomad-driver-podman, then nomad.service is restarted.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

install -D "$root/build/nomad" /usr/local/bin/nomad
install -d /etc/nomad.d /etc/nomad-server.d /opt/nomad/plugins /opt/nomad/server
install -d -m 0700 /opt/nomad/data
install -m 0644 "$root/examples/agent/nomad.hcl" "$root/examples/agent/podman.hcl" "$here/lab.hcl" /etc/nomad.d/
install -m 0644 "$root/examples/agent/server.hcl" "$here/lab.hcl" /etc/nomad-server.d/

# unit NAME DIRECTORY DESCRIPTION
unit() {
    cat >"/etc/systemd/system/$1.service" <<UNIT
[Unit]
Description=$3
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/local/bin/nomad agent -config $2
ExecReload=/bin/kill -HUP \$MAINPID
KillMode=process
KillSignal=SIGINT
LimitNOFILE=65536
LimitNPROC=infinity
TasksMax=infinity
Restart=on-failure
RestartSec=2

[Install]
WantedBy=multi-user.target
UNIT
}
unit nomad-server /etc/nomad-server.d 'Nomad server'
unit nomad /etc/nomad.d 'Nomad client'

systemctl daemon-reload
systemctl enable --quiet nomad-server.service nomad.service
systemctl restart nomad-server.service
curl --silent --fail --retry 120 --retry-delay 1 --retry-connrefused --retry-all-errors \
    http://127.0.0.1:4646/v1/status/leader >/dev/null
systemctl restart nomad.service
