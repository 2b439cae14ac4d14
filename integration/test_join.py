"""Nodes that join or come back while the chain works."""

import os
import random
import subprocess
import sys
import time

import pytest

from cluster import ROOT, Cluster
from kinds import on_rocksdb
from processes import wait_until

sys.path.insert(0, str(ROOT / "integration" / "bench"))
from loader import Load, Shape  # noqa: E402

POSITIONS = ("head", "middle", "tail")
DATASET_BYTES = 300 << 20
DIGEST = ["--enable-debug-command", "local"]


def digest(node):
    """One number for the whole data of a node, whatever its encodings."""
    return node.direct_client().execute_command("DEBUG", "DIGEST")


def wait_equal_digests(cluster):
    cluster.wait_position(timeout=60)
    if on_rocksdb():
        done = subprocess.run([str(cluster.binaries / "catenactl"), "--config", str(cluster.config),
                               "verify", "--effort", "100"], capture_output=True, text=True,
                              timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    digests = {node.id: digest(node) for node in cluster.wait_members()}
    assert len(set(digests.values())) == 1, digests


def fill(node, size, value_bytes=10000):
    """Values that do not compress, and a share of small keys of all types that there are."""
    client = node.direct_client()
    source = random.Random(7)
    block = source.randbytes(1 << 20)
    written = number = 0
    while written < size:
        pipeline = client.pipeline(transaction=False)
        for _ in range(200):
            at = source.randrange(len(block) - value_bytes)
            pipeline.set(f"fill:{number}", block[at:at + value_bytes])
            if on_rocksdb():
                pipeline.incr(f"counter:{number % 5000}")
            else:
                pipeline.hset(f"hash:{number % 5000}", f"f{number}", number)
                pipeline.zadd(f"zset:{number % 5000}", {f"m{number}": number})
            number += 1
        pipeline.execute()
        written += 200 * value_bytes
    assert bytes_of(node) >= size


def bytes_of(node):
    """What its database holds: in memory, or on disk."""
    if node.redis:
        return node.direct_client().info("memory")["used_memory"]
    return sum(entry.stat().st_size for entry in os.scandir(node.backend) if entry.is_file())


def sync_full(nodes):
    """How often a Redis got a full copy; what RocksDB's proxies got, their logs tell."""
    return sum(node.direct_client().info("stats")["sync_full"] for node in nodes if node.redis)


def count_in_log(process, text):
    with open(process.log, encoding="utf-8", errors="replace") as log:
        return sum(text in line for line in log)


def test_join_under_load():
    """An empty spare joins a chain of 300 MB that takes 4,000 writes/s; no write waits for it."""
    with Cluster(nodes=3, redis_args=DIGEST) as cluster:
        spare = cluster.tail()
        assert spare.proxy.stop()
        spare.wipe()
        cluster.wait_whole(members=2, without=[spare.id])
        fill(cluster.head(), DATASET_BYTES)
        cluster.wait_position()
        shape = Shape(mix="set=1", keys="sequential", connections=4, pipeline=1000, rate=4000,
                      size=100)
        with Load([cluster.head().clients], shape, "--seconds", 600, "--interval", 0.1) as load:
            wait_until(lambda: cluster.head().redis_client().exists(shape.key(20000)), 60,
                       "load flows")
            begun = time.monotonic()
            spare.proxy.start()
            cluster.wait_whole(timeout=120)
            joined = time.monotonic()
            wait_until(lambda: spare.redis_client().get(shape.key(5000)), 60, "it serves")
            result = load.end()
        assert not result["errors"]
        assert result["rate"] > 3800, "the load itself was not sustained"
        start = result["start_ns"] / 1e9
        assert sum(point["writes"] for point in result["timeline"]
                   if begun <= start + point["at"] < joined) > 1000
        assert result["latency_us"]["max"] < 500_000
        assert bytes_of(spare) >= DATASET_BYTES
        wait_equal_digests(cluster)


@pytest.mark.parametrize("position", ["middle", "tail"])
def test_a_follower_back_within_the_backlog_continues(position):
    """Its proxy was killed; its Redis lacks what was written meanwhile, and gets just that."""
    with Cluster(nodes=3, redis_args=DIGEST) as cluster:
        node = cluster.at(position)
        client = cluster.head().redis_client()
        for i in range(2000):
            client.set(f"before:{i}", "x" * 100)
        cluster.wait_position()
        before = sync_full(cluster.nodes)
        node.proxy.kill()
        cluster.wait_whole(members=2, without=[node.id])
        for i in range(2000):
            client.set(f"away:{i}", "y" * 100)
        if node.redis:
            assert node.direct_client().get("away:0") is None
        resumed = count_in_log(node.proxy, "event=resuming")
        node.proxy.start()
        cluster.wait_whole()
        assert node.redis_client().get("away:1999") == b"y" * 100
        wait_equal_digests(cluster)
        assert sync_full(cluster.nodes) == before
        assert count_in_log(node.proxy, "event=resuming") == resumed + 1
        assert count_in_log(node.proxy, "event=snapshot_begins") <= 1  # the one of the beginning


def test_a_follower_back_too_late_gets_a_full_copy():
    """More was written than the backlog holds: the same ends with equal data, by a snapshot."""
    settings = {"chain.limits.backlog_bytes": "64kb"}
    with Cluster(nodes=3, redis_args=DIGEST, settings=settings) as cluster:
        node = cluster.tail()
        client = cluster.head().redis_client()
        client.set("before", "x")
        cluster.wait_position()
        node.proxy.kill()
        cluster.wait_whole(members=2, without=[node.id])
        snapshots = count_in_log(node.proxy, "event=snapshot_begins")
        pipeline = client.pipeline(transaction=False)
        for i in range(2000):
            pipeline.set(f"away:{i}", "y" * 1000)
        pipeline.execute()
        node.proxy.start()
        cluster.wait_whole()
        assert node.redis_client().get("away:1999") == b"y" * 1000
        assert count_in_log(node.proxy, "event=snapshot_begins") == snapshots + 1
        wait_equal_digests(cluster)
