"""An operator at work while clients are: drain, reorder, replace, verify, events, config."""
# pylint: disable=redefined-outer-name

import json
import subprocess
import threading

import pytest

from cluster import Cluster, binary_directory
from processes import wait_until
from workload import OK, READ, WRITE, Connection, Load

SPARE = "n4"
POSITIONS = {"head": 0, "middle": 1, "tail": 2}


def catenactl(cluster, *arguments, expected=0):
    done = subprocess.run([str(binary_directory() / "catenactl"), "--config", str(cluster.config),
                           *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, spares=1) as running:
        yield running


def order_of(cluster):
    return [node.id for node in cluster.members()]


@pytest.fixture
def whole(cluster):
    """The chain n1, n2, n3 with n4 kept out, so that nobody takes a drained member's place."""
    catenactl(cluster, "drain", SPARE, "--no-wait")
    for node in ("n1", "n2", "n3"):
        catenactl(cluster, "undrain", node)
    cluster.wait_whole(members=3, without=[SPARE])
    return cluster


class States:
    """At each node: a client that waits in BLPOP, and one that makes transactions. Each value that is
    pushed must come to the one that waits, once."""

    def __init__(self, cluster):
        self._stopping = threading.Event()
        self.problems, self.rounds = [], {node.id: 0 for node in cluster.nodes}
        self._threads = [threading.Thread(target=run, args=(node,), daemon=True)
                         for node in cluster.nodes for run in (self._wait, self._transact)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join(20)

    def _wait(self, node):
        waiting, pushing = Connection(node.clients), Connection(node.clients)
        number = 0
        while not self._stopping.is_set():
            number += 1
            try:
                waiting.send("BLPOP", f"queue:{node.id}", 0)
                self._stopping.wait(0.15)
                pushing.call("RPUSH", f"queue:{node.id}", number)
                answer = waiting.receive()
                if answer != [f"queue:{node.id}".encode(), b"%d" % number]:
                    self.problems.append(f"{node.id}: BLPOP {number} gave {answer}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(f"{node.id}: BLPOP {number}: {error}")
                return

    def _transact(self, node):
        connection = Connection(node.clients)
        key = f"counter:{node.id}"
        while not self._stopping.is_set():
            try:
                for command in (("MULTI",), ("INCR", key), ("INCR", key)):
                    connection.call(*command)
                    self._stopping.wait(0.002)
                self.rounds[node.id] += 1
                values = connection.call("EXEC")
                if values != [2 * self.rounds[node.id] - 1, 2 * self.rounds[node.id]]:
                    self.problems.append(f"{node.id}: EXEC gave {values}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(f"{node.id}: transaction: {error}")
                return


def nobody_failed(load, states, cluster, since=0.0):
    pauses = {kind: load.longest_pause(cluster.nodes, kind, since) for kind in (WRITE, READ)}
    failed = [o for o in load.failures(since=since) if o.outcome != OK]
    assert not failed, failed[:5]
    assert not states.problems, states.problems[:5]
    return f"longest pause: writes {pauses[WRITE]:.3f} s, reads {pauses[READ]:.3f} s"


@pytest.mark.parametrize("position", POSITIONS)
def test_drain_fails_no_request_of_any_client(whole, position):
    leaver = whole.members()[POSITIONS[position]]
    with Load(whole, depth=4) as load, States(whole) as states:
        load.wait_progress(count=10)
        told = catenactl(whole, "drain", leaver.id)
        assert f"{leaver.id} is out of chain main" in told
        load.wait_progress(count=10)  # its proxy's clients too
        assert leaver.id not in order_of(whole)
        catenactl(whole, "undrain", leaver.id)
        whole.wait_whole(members=3)
        load.wait_progress(count=10)
    print(f"\ndrain of the {position}: {nobody_failed(load, states, whole)}; it says: {told.strip()}")
    whole.wait_position()
    load.check(whole.members())


@pytest.mark.parametrize("position", POSITIONS)
def test_reorder_fails_no_request_of_any_client(whole, position):
    before = order_of(whole)
    mover = before[POSITIONS[position]]
    wanted = [node for node in before if node != mover]
    wanted.insert(1 if position == "tail" else 2, mover)
    with Load(whole, depth=4) as load, States(whole) as states:
        load.wait_progress(count=10)
        told = catenactl(whole, "reorder", "main", ",".join(wanted))
        assert order_of(whole) == wanted
        load.wait_progress(count=10)
    print(f"\nreorder, the {position}: {nobody_failed(load, states, whole)}; it says: "
          f"{told.strip().splitlines()[0]}")
    whole.wait_position()
    load.check(whole.members())
    assert [d["node"] for d in whole.chain_status()["record"]["drains"]] == [SPARE]
