#!/bin/sh
# Installs the Debian packages that labs are made with. Quick when they are there.
set -eu

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

# install [APT-OPTION...] PACKAGE...
install() {
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# A program of each package, and the package.
wanted="qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mke2fs:e2fsprogs ssh:openssh-client gcc:gcc"

missing=
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    echo "installing what the lab needs:$missing"
    $sudo apt-get update -q
    # libc6-dev is for gcc, the keyring for mmdebstrap, and the firmware for QEMU.
    # shellcheck disable=SC2086 # a list of packages
    install $missing libc6-dev debian-archive-keyring seabios ipxe-qemu
fi

# Debian 12's QEMU emulates a processor at half the speed of its backports' (docs/testing.md). They come from the mirror
# that this machine uses, and stay no source of packages.
version=$(qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p')
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
if [ "$version" -lt 10 ] && [ "$suite" = bookworm ]; then
    echo "installing a faster QEMU from Debian's backports"
    lists=$(mktemp -d)
    trap 'rm -rf "$lists"' EXIT
    chmod 755 "$lists" # apt reads it as a user of its own
    # shellcheck disable=SC2016 # apt's own variables
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    cp -r /etc/apt/sources.list.d/. "$lists"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" >"$lists/backports.list"
    if ! { $sudo apt-get -o Dir::Etc::SourceParts="$lists" update -q &&
        install -o Dir::Etc::SourceParts="$lists" -t bookworm-backports qemu-system-x86; }; then
        echo "going on with QEMU $version: labs will be slow" >&2
    fi
fi
