#!/usr/bin/env bash
# Fuzzes: builds the targets of tests/fuzz with everything instrumented, runs each for some seconds
# from its corpus in the tree and what earlier runs found (build/fuzz/corpus), one after the other.
# The last line counts: "fuzz targets T, runs R, crashes C". Exit code 0 only without crashes; what
# crashed is left in build/fuzz/crashes.
#
#   tests/fuzz.sh [--seconds N] [--merge] [TARGET ...]
#
# --merge instead makes the corpora in the tree anew from all inputs that there are: few that reach
# much.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

seconds=60
merge=false
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds)
      [ $# -ge 2 ] || { echo "fuzz.sh: --seconds wants a number" >&2; exit 2; }
      seconds=$2
      shift
      ;;
    --merge) merge=true ;;
    -*) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
if [ ${#targets[@]} -eq 0 ]; then
  for file in tests/fuzz/*.cc; do targets+=("$(basename "$file" .cc)"); done
fi

build=build/fuzz
mkdir -p $build/corpus $build/crashes
programs=("${targets[@]/#/fuzz_}")
if ! { cmake --preset fuzz && cmake --build --preset fuzz --target "${programs[@]}"; } \
  >$build/build.log 2>&1; then
  tail -40 $build/build.log >&2
  echo "fuzz.sh: the build failed" >&2
  exit 1
fi

# Inputs stay small: what matters is how they are put together.
limits=(-max_len=1024 -timeout=20 -rss_limit_mb=2048)

merge_corpus() {
  local kept=$build/merged
  rm -rf $kept
  mkdir -p $kept
  "$build/bin/fuzz_$1" -set_cover_merge=1 -max_len=512 $kept "tests/fuzz/corpus/$1" \
    "$build/corpus/$1" >"$build/$1.log" 2>&1 || return 1
  # A dozen is enough in the tree, and the longest do most.
  rm -f "tests/fuzz/corpus/$1"/*
  find $kept -type f -printf '%s %p\n' | sort -rn | head -n 12 | cut -d' ' -f2- |
    xargs -r cp -t "tests/fuzz/corpus/$1"
}

runs=0
crashes=0
for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target" "tests/fuzz/corpus/$target"
  if $merge; then
    merge_corpus "$target" || { echo "fuzz.sh: $target: see $build/$target.log" >&2; exit 1; }
    continue
  fi
  result=ok
  "$build/bin/fuzz_$target" -max_total_time="$seconds" "${limits[@]}" -print_final_stats=1 \
    -artifact_prefix="$build/crashes/$target-" "$build/corpus/$target" \
    "tests/fuzz/corpus/$target" >"$build/$target.log" 2>&1 || result="crashed, see $build/$target.log"
  [ "$result" = ok ] || crashes=$((crashes + 1))
  done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$target.log")
  runs=$((runs + ${done_runs:-0}))
  echo "$target: ${done_runs:-0} runs, $result"
done
$merge && exit 0
echo "fuzz targets ${#targets[@]}, runs $runs, crashes $crashes"
[ $crashes -eq 0 ]
