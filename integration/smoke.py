#!/usr/bin/env python3
"""The quickstart's own test: a real chain is written to, read, loses a proxy, and goes on.

    smoke.py [redis|rocksdb]

Needs nothing but Catena, etcd and, with redis, redis-server. Prints what it does; exit code 0 if all of it worked.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cluster import Cluster  # noqa: E402
from processes import Failed  # noqa: E402
from workload import Connection, ErrorReply  # noqa: E402

_TIMEOUT = 30


def ask(node, *arguments):
    """What a proxy answers, as text; Failed if it is an error."""
    try:
        connection = Connection(node.clients, _TIMEOUT)
        answer = connection.call(*arguments)
        connection.close()
        return answer.decode()
    except (ErrorReply, OSError) as error:
        raise Failed(f"{node.id}: {' '.join(arguments)}: {error}") from error


def expect(node, answer, *arguments):
    got = ask(node, *arguments)
    print(f"  {node.id} ({node.clients}): {' '.join(arguments)} -> {got}")
    if got != answer:
        raise Failed(f"{node.id}: {' '.join(arguments)} answered {got!r}, wanted {answer!r}")


def show_status(cluster):
    subprocess.run([str(cluster.binaries / "catenactl"), "--config", str(cluster.config), "status"],
                   check=True)


def run(backend):
    print(f"starting three nodes with {backend}, a coordinator and etcd", flush=True)
    with Cluster(nodes=3, backend=backend) as cluster:
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
        run(sys.argv[1] if len(sys.argv) > 1 else "redis")
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
