#!/bin/bash
# Builds a program that the machine needs, static, so that it runs on every suite:
#
#   binaries.sh nomad FILE    Nomad with its UI, from the module in lab/nomad
#   binaries.sh probe FILE    the program of the probe image, from lab/probe
#
# Runs where Go is, not in the machine.
set -eu

lab=$(cd "$(dirname "$0")/.." && pwd)
what=$1
file=$(realpath -m "$2")
mkdir -p "$(dirname "$file")"

case $what in
nomad)
    cd "$lab/nomad"
    # cgo, because Nomad's user lookups and its host statistics are built with it.
    CGO_ENABLED=1 go build -trimpath -buildvcs=false -tags ui,osusergo,netgo \
        -ldflags '-s -w -linkmode external -extldflags -static' \
        -o "$file" github.com/hashicorp/nomad
    ;;
probe)
    cd "$lab/probe"
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$file" .
    ;;
*)
    echo "binaries.sh: unknown program $what" >&2
    exit 2
    ;;
esac
