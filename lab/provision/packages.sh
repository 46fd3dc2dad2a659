#!/bin/bash
# Installs the packages of the list beside it that are missing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
missing=()
while read -r name suites; do
    case "$name" in '' | '#'*) continue ;; esac
    case " ${suites:-$suite} " in *" $suite "*) ;; *) continue ;; esac
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
done <"$here/packages"

if [ ${#missing[@]} -gt 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install -y --no-install-recommends "${missing[@]}"
fi

# Takes the place of dbus-daemon from the next boot on, where a test asks for it.
systemctl disable --quiet dbus-broker.service
systemctl --global disable --quiet dbus-broker.service

# Daemons that only give their binaries to images.
systemctl disable --now --quiet redis-server.service nats-server.service
systemctl mask --quiet redis-server.service nats-server.service
