#!/usr/bin/env bash
# Builds the simulator and runs it: whole clusters under faults, one a seed (tests/README.md).
#
#   tests/sim.sh --seeds N [--from S]   the last line is "seeds N violations V"
#   tests/sim.sh --seed S --trace       replays one seed, readable
#   tests/sim.sh --backend rocksdb ...  any of these with a RocksDB in the proxies
#   tests/sim.sh --mutants              plants known defects; the last line is "mutants M caught C"
#   tests/sim.sh --mutant NAME ...      any of these with one of the defects
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=release
case " $* " in *" --mutant"*) preset=mutants ;; esac
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" -j "$(nproc)" --target catena_sim >/dev/null
exec "build/$preset/bin/catena_sim" "$@"
