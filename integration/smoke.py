#!/usr/bin/env python3
"""The quickstart's own test: a real chain is written to, read, loses a proxy, and goes on.

Uses redis-cli as anybody would. Prints what it does; exit code 0 if all of it worked.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cluster import Cluster  # noqa: E402
from processes import Failed  # noqa: E402

_TIMEOUT = 30


def redis_cli(node, *arguments):
    """What a proxy answers; Failed if it is an error."""
    host, port = node.clients.rsplit(":", 1)
    try:
        done = subprocess.run(["redis-cli", "-e", "-h", host, "-p", port, *arguments],
                              capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{node.id}: no answer to {' '.join(arguments)} in {_TIMEOUT} s") from error
    answer = done.stdout.strip()
    if done.returncode != 0:
        raise Failed(f"{node.id}: {' '.join(arguments)}: {answer or done.stderr.strip()}")
    return answer


def expect(node, answer, *arguments):
    got = redis_cli(node, *arguments)
    print(f"  {node.id} ({node.clients}): {' '.join(arguments)} -> {got}")
    if got != answer:
        raise Failed(f"{node.id}: {' '.join(arguments)} answered {got!r}, wanted {answer!r}")


def show_status(cluster):
    subprocess.run([str(cluster.binaries / "catenactl"), "--config", str(cluster.config), "status"],
                   check=True)


def run():
    print("starting three nodes, a coordinator and etcd", flush=True)
    with Cluster(nodes=3) as cluster:
        head, middle, tail = cluster.members()
        print("writing through one proxy, reading through every one")
        expect(middle, "OK", "SET", "greeting", "hello")
        for node in (head, middle, tail):
            expect(node, "hello", "GET", "greeting")
        print(f"killing the tail's proxy, {tail.id}")
        tail.proxy.kill()
        expect(middle, "OK", "SET", "greeting", "still here")
        for node in (head, middle):
            expect(node, "still here", "GET", "greeting")
        cluster.wait_whole(members=2, without=[tail.id])
        sys.stdout.flush()
        show_status(cluster)
    print("everything stopped; all of it worked")


def main():
    try:
        run()
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
