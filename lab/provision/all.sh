#!/bin/bash
# Makes this Debian machine one that jobs can be tried on: packages, host users,
# an image registry with images, Nomad. For the lab and for Vagrant. Run it as
# root; it may be run again.
#
# It expects the repository's layout around it: examples/agent, and build/nomad
# and build/probe as binaries.sh makes them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
for step in packages users containers registry images nomad; do
    echo "== $step"
    bash "$here/$step.sh"
done
