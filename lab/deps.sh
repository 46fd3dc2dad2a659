#!/bin/sh
# Installs the Debian packages that labs are made with. Quick when they are there.
set -eu

# A program of each package, and the package.
wanted="qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap mke2fs:e2fsprogs
ssh:openssh-client gcc:gcc"

missing=
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing what the lab needs:$missing"
# libc6-dev is for gcc, the keyring for mmdebstrap, and the firmware for QEMU.
$sudo apt-get update -q
# shellcheck disable=SC2086 # a list of packages
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    $missing libc6-dev debian-archive-keyring seabios ipxe-qemu
