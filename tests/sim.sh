#!/usr/bin/env bash
# Builds the simulator and runs it: whole clusters under faults, one a seed (tests/README.md).
#
#   tests/sim.sh --seeds N [--from S]   the last line is "seeds N violations V"
#   tests/sim.sh --seed S --trace       replays one seed, readable
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake --preset release >/dev/null
cmake --build --preset release -j "$(nproc)" --target catena_sim >/dev/null
exec build/release/bin/catena_sim "$@"
