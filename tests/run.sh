#!/usr/bin/env bash
# Everything that must pass: installs what is missing, builds the unit and scenario tests with ASan
# and UBSan and the programs as they are released, and runs all of it and the tests with real processes.
# The last line counts: "N passed, N failed". Exit code 0 only if nothing failed.
#
#   tests/run.sh [ctest arguments, such as -R config or -L integration]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export CTEST_OUTPUT_ON_FAILURE=1

stop() {
  echo "$1" >&2
  echo "0 passed, 1 failed"
  exit 1
}

integration/install.sh || stop "run.sh: packages are missing"
jobs=$(nproc)

build() {
  cmake --preset asan && cmake --build --preset asan --target catena_tests -j "$jobs" &&
    cmake --preset release -DCATENA_SANITIZED_BIN="$PWD/build/asan/bin" &&
    cmake --build --preset release --target catena_programs -j "$jobs"
}
build || stop "run.sh: the build failed"

results=build/release/results.xml
rm -f "$results"
ctest --test-dir build/release -j "$jobs" --no-tests=error --output-junit results.xml "$@" </dev/null
code=$?

[ -s "$results" ] || stop "run.sh: ctest left no results"
# ctest has summed up already, but with other lines behind when something failed.
/usr/bin/python3 - "$results" "$code" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

suite = ElementTree.parse(sys.argv[1]).getroot()
total, failed = int(suite.get("tests")), int(suite.get("failures"))
skipped = int(suite.get("skipped", 0)) + int(suite.get("disabled", 0))
# Something outside of the tests went wrong; it must not look like success.
if int(sys.argv[2]) != 0 and failed == 0:
    failed = 1
print(f"{total - failed - skipped} passed, {failed} failed")
sys.exit(1 if failed else 0)
PYTHON
