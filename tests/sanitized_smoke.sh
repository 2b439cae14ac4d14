#!/usr/bin/env bash
# Runs the integration smoke with programs built with sanitizers: a real chain is written to, read,
# loses a proxy, goes on and is stopped. Exit code 0 only if it worked and no process reported
# anything, leaks at the end included. Reports are left in build/PRESET/reports.
#
#   tests/sanitized_smoke.sh asan|tsan [FILE ...]
#
# With files of integration tests (integration/test_sessions.py ...) those run instead.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

case ${1-} in
  asan | tsan) preset=$1 ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
shift

build=$PWD/build/$preset
reports=$build/reports
mkdir -p "$reports"
rm -f "$reports"/*
if ! { cmake --preset "$preset" &&
  cmake --build --preset "$preset" --target catena-proxy catena-coordinator catenactl; } \
  >"$build/smoke_build.log" 2>&1; then
  tail -40 "$build/smoke_build.log" >&2
  echo "sanitized_smoke.sh: the build failed" >&2
  exit 1
fi

export CATENA_BIN=$build/bin
export ASAN_OPTIONS="log_path=$reports/asan:detect_stack_use_after_return=1:strict_string_checks=1"
export UBSAN_OPTIONS="log_path=$reports/ubsan:print_stacktrace=1"
export LSAN_OPTIONS="log_path=$reports/lsan"
export TSAN_OPTIONS="log_path=$reports/tsan:halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan_suppressions.txt"
if [ $# -gt 0 ]; then
  /usr/bin/python3 -m pytest -q -p no:cacheprovider "$@"
else
  /usr/bin/python3 integration/smoke.py
fi
code=$?
shopt -s nullglob
for report in "$reports"/*; do
  echo "--- $report" >&2
  head -60 "$report" >&2
  code=1
done
[ $code -eq 0 ] && echo "$preset: no reports"
exit $code
