#!/usr/bin/env bash
# Every test of a Redis chain that can be, on a chain of RocksDBs, and a campaign of faults: a quarter of
# an hour. A choice of them is part of ctest (tests/CMakeLists.txt).
#
#   rocksdb_matrix.sh [pytest arguments, such as -k failover -x]
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CATENA_BIN=${CATENA_BIN:-$here/../build/release/bin} CATENA_BACKEND=rocksdb

files=()
for name in rocksdb failover partition reads sessions states state_failover join operations hostile \
  upgrade reload campaign; do
  files+=("$here/test_$name.py")
done
exec /usr/bin/python3 -m pytest -q -p no:cacheprovider --durations=10 "${files[@]}" "$@"
