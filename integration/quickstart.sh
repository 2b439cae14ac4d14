#!/usr/bin/env bash
# One command from a fresh clone to a running chain: installs what is missing, builds, and starts
# etcd, a coordinator, and three databases with a proxy each. Clients connect to 127.0.0.1:6380, 6381
# and 6382. Ctrl-C stops everything.
#
#   quickstart.sh               run
#     --base-port N             with another first port
#     --backend redis|rocksdb   three Redis servers (the default), or a RocksDB in each proxy
#     --smoke                   start on free ports, write, read, kill a proxy, write and read again,
#                               stop; exit code 0 if all of it worked
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
bin=$root/build/release/bin

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

smoke=false
base_port=6380
backend=redis
while [ $# -gt 0 ]; do
  case $1 in
    --smoke) smoke=true ;;
    --base-port)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      base_port=$2
      shift
      ;;
    --backend)
      case ${2-} in redis | rocksdb) backend=$2 ;; *) usage >&2; exit 2 ;; esac
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

"$here/install.sh" --without-tests

build() {
  cd "$root"
  cmake --preset release >build/quickstart.log 2>&1 &&
    cmake --build --preset release --target catena-proxy catena-coordinator catenactl \
      >>build/quickstart.log 2>&1
}
mkdir -p "$root/build"
echo "building (the first time takes some minutes; output in build/quickstart.log)"
if ! build; then
  tail -40 "$root/build/quickstart.log" >&2
  echo "quickstart.sh: the build failed" >&2
  exit 1
fi

if $smoke; then
  exec env CATENA_BIN="$bin" python3 "$here/smoke.py" "$backend"
fi

# The cluster ends with its standard input, which is a pipe from here: it cannot outlive this script.
coproc CLUSTER { exec python3 "$here/cluster.py" up --bin "$bin" --base-port "$base_port" \
  --backend "$backend"; }
cluster_pid=$CLUSTER_PID
# Ctrl-C reaches the cluster directly as well; it needs to be told only once.
trap 'kill -TERM "$cluster_pid" 2>/dev/null || true' INT TERM HUP
echo "starting"
if ! read -r described <&"${CLUSTER[0]}"; then
  wait "$cluster_pid" || true
  echo "quickstart.sh: the chain did not come up" >&2
  exit 1
fi

# Ctrl-C may end what prints this too; going down in order is what counts then.
python3 - "$described" "$bin" "$backend" <<'PYTHON' || true
import json, shlex, sys
cluster, bin = json.loads(sys.argv[1]), sys.argv[2]
databases = {"redis": "three Redis servers, each behind a proxy",
             "rocksdb": "three proxies, each with a RocksDB in it"}[sys.argv[3]]
nodes = cluster["nodes"]
ports = [node["clients"].rsplit(":", 1)[1] for node in nodes]
directory = cluster["config"].rsplit("/", 1)[0]
tail = nodes[-1]
print(f"""
Running: one chain of {databases}.
  Clients connect to {", ".join(node["clients"] for node in nodes)}: any of them, for reads and writes.

    redis-cli -p {ports[0]} set greeting hello
    redis-cli -p {ports[2]} get greeting

  The chain:   {bin}/catenactl --config {cluster["config"]} status
  The logs:    {directory}/logs

  Kill a proxy and go on through the others:   kill -9 {tail["proxy_pid"]}
  Start it again; it catches up by itself:     {shlex.join(tail["proxy_argv"])}

Ctrl-C stops everything.""", flush=True)
PYTHON

# A trapped signal ends `wait` early; the cluster may still be on its way down then.
while kill -0 "$cluster_pid" 2>/dev/null; do
  wait "$cluster_pid" || true
done
echo "stopped"
