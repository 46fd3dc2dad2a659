#!/bin/bash
# The part of the demo that happens in the machine, as root. The host user team-a has never logged in there.
set -euo pipefail
cd "$(dirname "$0")"

# say TEXT: a heading.
say() { printf '\n\e[1m# %s\e[0m\n' "$*"; }

# show COMMAND: prints a command and runs it.
show() {
    printf '\e[36m$ %s\e[0m\n' "$1"
    bash -o pipefail -c "$1"
}

# await TEXT COMMAND: waits until a command succeeds, and says what for.
await() {
    local started=$SECONDS
    printf 'waiting for %s ' "$1"
    until bash -o pipefail -c "$2" >/dev/null 2>&1; do
        if ((SECONDS - started > 300)); then
            printf '\n%s did not come in 300 seconds\n' "$1" >&2
            nomad alloc status "$(alloc)" >&2 || true
            exit 1
        fi
        printf '.'
        sleep 1
    done
    printf ' %d s\n' $((SECONDS - started))
}

# alloc: the ID of the job's newest allocation.
alloc() { nomad job allocs -json redis 2>/dev/null | jq -r 'max_by(.CreateIndex).ID'; }

# The host user as podman knows them.
as_team_a="runuser -u team-a -- env -C / XDG_RUNTIME_DIR=/run/user/2001 podman"

cleanup() { nomad job stop -purge -detach redis >/dev/null 2>&1 || true; }
trap cleanup EXIT

say "The agent's configuration: tasks run as the host user team-a, whose systemd manager is not running"
show "grep -v '^ *#' /etc/nomad.d/podman.hcl"
show "systemctl is-active user@2001.service || true"
show "stat -c '%A %U %n' /opt/nomad/data"

say "The job: nothing in it is about rootless containers"
show "cat jobs/redis.nomad.hcl"
show "nomad job run -detach jobs/redis.nomad.hcl"
await "the allocation" "nomad job allocs -json redis | jq -e 'length > 0'"
await "podman of team-a to start, the image to be pulled and the task to run" \
    "nomad job allocs -json redis | jq -e 'any(.[]; .TaskStates.redis.State == \"running\")'"
id=$(alloc)
show "nomad job status redis"
show "nomad alloc status $id"

say "redis answers through the published port"
read -r host port < <(nomad alloc status -json "$id" | jq -r '.AllocatedResources.Shared.Ports[0] | "\(.HostIP) \(.Value)"')
await "redis to listen" "redis-cli -h $host -p $port ping"
show "redis-cli -h $host -p $port ping"
[[ $(redis-cli -h "$host" -p "$port" ping) == PONG ]]

say "Its two log streams"
show "nomad alloc logs $id redis"
show "nomad alloc logs -stderr $id redis"

say "Its stats, read from cgroup files"
await "the first statistics" "nomad alloc status -stats $id | grep -q 'Memory Stats'"
show "nomad alloc status -stats $id | sed -n '/^Task \"redis\"/,/^Task Events/p'"

say "The container is the host user's, in the user's own systemd manager"
show "$as_team_a ps"
show "podman ps"
show "systemctl is-active user@2001.service"
show "ps -C redis-server -o user:12,pid,cgroup:120,args"
show "stat -c '%A %U %n' /opt/nomad/data"

say "Purging the job"
show "nomad job stop -purge -detach redis"
await "the container to be gone" "! $as_team_a ps --all --quiet | grep -q ."
show "$as_team_a ps --all"

say "Done: a redis job of an unprivileged host user ran under Nomad"
