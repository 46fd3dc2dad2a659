#!/bin/bash
# Makes images from Debian's packages, puts them into the registry, and the small
# ones (busybox, probe) into the storage of root and of every host user as well.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
registry=127.0.0.1:5000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Copies programs into the tree, with the libraries that they are linked to.
copy_programs() {
    local tree=$1 file
    shift
    for file in "$@" $(ldd "$@" 2>/dev/null | grep -o '/[^ ):]*' | sort -u); do
        install -D "$file" "$tree$file"
    done
}

# A root directory with busybox as shell and tools, and a few users.
base() {
    local tree=$1 applet
    mkdir -p "$tree"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,usr/local/bin,var/tmp}
    chmod 1777 "$tree/tmp" "$tree/var/tmp"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    for applet in $("$tree/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    cat >"$tree/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
redis:x:999:999:redis:/data:/bin/false
app:x:1000:1000:app:/home:/bin/sh
nobody:x:65534:65534:nobody:/home:/bin/false
PASSWD
    cat >"$tree/etc/group" <<'GROUP'
root:x:0:
daemon:x:1:
redis:x:999:
app:x:1000:
nogroup:x:65534:
GROUP
}

# build NAME TAG...: NAME's Containerfile, over the tree, into the registry.
build() {
    local name=$1 tag id
    shift
    cp -r "$here/images/$name/." "$work/$name/"
    id=$(podman build --quiet --layers=false --pull=never "$work/$name")
    for tag in "$@"; do
        podman push --quiet "$id" "docker://$registry/library/$name:$tag"
    done
    podman rmi "$id" >/dev/null
    rm -rf "${work:?}/$name"
}

base "$work/base"
for name in busybox redis nats probe; do
    mkdir "$work/$name"
    cp -a "$work/base" "$work/$name/tree"
done

copy_programs "$work/redis/tree" /usr/bin/redis-server /usr/bin/redis-cli /usr/bin/setpriv
copy_programs "$work/nats/tree" "$(PATH=$PATH:/usr/sbin command -v nats-server)"
install "$root/build/probe" "$work/probe/tree/bin/probe"

build busybox latest
build redis latest 7
build nats latest
build probe latest

# As each user, in the user's own systemd manager, which is stopped again.
podman pull --quiet docker.io/library/busybox docker.io/library/probe >/dev/null
for name in team-a team-b team-c team-d; do
    uid=$(id -u "$name")
    systemctl start "user@$uid.service"
    (cd / && runuser -u "$name" -- env -i "HOME=/home/$name" "PATH=$PATH" "XDG_RUNTIME_DIR=/run/user/$uid" \
        podman pull --quiet docker.io/library/busybox docker.io/library/probe >/dev/null)
    systemctl stop "user@$uid.service" "user-runtime-dir@$uid.service"
done
