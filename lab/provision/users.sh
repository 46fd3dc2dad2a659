#!/bin/bash
# The host users whose podman runs tasks. Nobody logs in as them, and their
# systemd managers are not running.
set -eu

uid=2001
for name in team-a team-b team-c team-d; do
    if ! id -u "$name" >/dev/null 2>&1; then
        # useradd gives an ordinary user subordinate IDs (login.defs(5)).
        useradd --create-home --uid $uid --user-group --shell /bin/bash "$name"
        chmod 700 "/home/$name"
    fi
    uid=$((uid + 1))
done
