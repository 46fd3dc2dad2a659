#!/bin/bash
# Shows the driver at work: a redis job runs rootless under a real Nomad, in a virtual machine made for it (lab/), of
# which nothing is left afterwards. `make demo` builds what this needs and calls it; demo-guest.sh is what happens in
# the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
echo "The first run builds the machine, which takes minutes; later ones start it from its saved state."
build/lab run --books examples/demo-guest.sh
echo
echo "The demo succeeded in $((SECONDS - started)) seconds. The machine is gone, nothing is left running."
