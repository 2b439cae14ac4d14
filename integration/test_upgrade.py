"""A cluster that runs goes to the next version, one process after the other.

The next version's programs (bin/next) speak one version of the protocol more; see proxy/base/version.h.
"""

import threading
import time

import pytest

from cluster import Cluster
from outage import check_settled
from processes import wait_until
from workload import CLOSED, DOWN, Connection, Load


@pytest.fixture(name="cluster", scope="module")
def fixture_cluster():
    with Cluster(nodes=3, coordinators=2, settings={"cluster.log_level": "debug"}) as started:
        yield started


def replace(cluster, process):
    """Stops it in the orderly way and starts the next version in its place."""
    old = cluster.binaries / process.argv[0].rsplit("/", 1)[-1]
    assert process.stop(timeout=15), f"{process.name} did not stop by itself"
    assert process.exit_code() == 0
    process.argv[0] = str(old.parent / "next" / old.name)
    process.start()


def versions(cluster):
    return {node["report"]["node"]: node["report"]["version"]
            for node in cluster.chain_status()["nodes"]}


def protocols(process, event):
    """Those that this process agreed on with others, in order."""
    with open(process.log, encoding="utf-8") as log:
        return [line.rsplit("protocol=", 1)[1].strip() for line in log if f"event={event}" in line]


def test_rolling_upgrade_under_load(cluster):
    """No write is lost, and nobody who is connected elsewhere notices."""
    old = set(versions(cluster).values())
    with Load(cluster) as load:
        load.wait_progress()
        for coordinator in cluster.coordinators:
            replace(cluster, coordinator)
            load.wait_progress()
        for node in cluster.nodes:
            others = [each for each in cluster.nodes if each is not node]
            began = time.monotonic()
            replace(cluster, node.proxy)
            cluster.wait_whole()
            load.wait_progress()
            assert not load.failures(others, since=began)
            gone = {o.outcome for o in load.failures([node], since=began)}
            assert gone <= {CLOSED, DOWN}, "every reply that was owed came; nothing is unknown"
    check_settled(cluster, load)
    assert old.isdisjoint(versions(cluster).values())
    assert {v.removesuffix("+next") for v in versions(cluster).values()} == old


def test_neighbours_of_two_versions_used_the_older_protocol(cluster):
    first, _, last = cluster.nodes
    # n3, still of the older version, had n1 of the newer one behind it; n1 then had n2 and n3.
    assert set(protocols(last.proxy, "peer_proven")) == {"1"}
    assert protocols(first.proxy, "peer_proven")[-1] == "2"
    assert protocols(first.proxy, "coordinator_found")[0] == "1"
    assert protocols(first.proxy, "coordinator_found")[-1] == "2"


def test_a_client_of_a_stopping_proxy_is_told_in_order(cluster):
    """Replies that are owed come, then the connection ends; a new one is refused until it is back."""
    node = cluster.tail()
    idle, subscriber, queueing, busy = (Connection(node.clients) for _ in range(4))
    idle.call("PING")
    subscriber.call("SUBSCRIBE", "news")
    queueing.call("MULTI")
    assert queueing.call("SET", "queued", "1") == b"QUEUED"
    answers = []

    def write_on():
        try:
            while True:
                busy.send("INCR", "counter")
                answers.append(busy.receive())
        except OSError:
            answers.append("closed")

    writer = threading.Thread(target=write_on)
    writer.start()
    wait_until(lambda: len(answers) > 50, 10, "writes are answered")
    assert node.proxy.stop(timeout=15)
    writer.join()
    assert answers[-1] == "closed"
    numbers = answers[:-1]
    assert numbers == list(range(1, len(numbers) + 1)), "each answer in its turn, none an error"
    for connection in (idle, subscriber, queueing):
        with pytest.raises(OSError):
            connection.receive()
    survivor = next(each for each in cluster.nodes if each is not node).redis_client()
    # At most the one that was sent as the connection ended is without an answer, and was not taken.
    assert int(survivor.get("counter")) == len(numbers)
    assert survivor.get("queued") is None
    with pytest.raises(ConnectionRefusedError):
        Connection(node.clients)
    node.proxy.start()
    cluster.wait_whole()
