"""README, "Moving in and out": a master with its replicas and clients becomes a chain, and plain Redis again.

Each step is one of the README's, in its order; the clients work through all of it.
"""

import threading

import pytest
import redis

from cluster import Cluster
from processes import wait_until
from workload import Connection


class Client:
    """Appends to a list of its own, one item after the other, wherever it is told to; never fails."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.acknowledged, self.problems = 0, []
        self._stopping = threading.Event()
        self._moved = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stopping.is_set():
            connection = Connection(self.address)
            self._moved.clear()
            try:
                while not self._moved.is_set() and not self._stopping.wait(0.002):
                    length = connection.call("RPUSH", self.name, self.acknowledged)
                    self.acknowledged += 1
                    if length != self.acknowledged:
                        self.problems.append(f"{length} items after {self.acknowledged}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(f"at {self.address}: {error}")
                return
            finally:
                connection.close()

    def move(self, address):
        self.address = address
        self._moved.set()
        self.wait_progress()

    def wait_progress(self):
        before = self.acknowledged
        wait_until(lambda: self.problems or self.acknowledged > before + 20, 20,
                   f"{self.name} writes at {self.address}")
        assert not self.problems

    def stop(self):
        self._stopping.set()
        self._thread.join()


def in_sync(replica, master):
    info = replica.info("replication")
    return info["role"] == "slave" and info["master_link_status"] == "up" and \
        info["slave_repl_offset"] == master.info("replication")["master_repl_offset"]


@pytest.fixture(name="cluster", scope="module")
def fixture_cluster():
    """n1's Redis is the master, n2's and n4's its replicas, n3's is new. Nothing of Catena runs yet."""
    made = Cluster(nodes=3, spares=1, settings={"node.n2.overwrite": "true"},
                   redis_args=["--repl-diskless-sync-delay", "0"])
    try:
        for node in made.nodes:
            node.redis.start()
        for node in made.nodes:
            wait_until(lambda n=node: answers(n), 10, f"{node.redis.name} answers")
        yield made
    finally:
        made.stop()


def answers(node):
    try:
        return node.direct_client().ping()
    except redis.ConnectionError:
        return False


@pytest.fixture(name="clients", scope="module")
def fixture_clients(cluster):
    made = [Client(f"client{number}", cluster.nodes[0].backend) for number in range(3)]
    yield made
    for client in made:
        client.stop()


def test_moving_in(cluster, clients):
    n1, n2, n3, old = cluster.nodes
    master = n1.direct_client()
    for replica in (n2, old):
        replica.direct_client().replicaof(*n1.backend.split(":"))
        wait_until(lambda r=replica: in_sync(r.direct_client(), master), 10, "ordinary replicas")
    # The proxy of the master first: its data is the chain's.
    for process in cluster.etcds + cluster.coordinators + [n1.proxy]:
        process.start()
    cluster.wait_whole(members=1)
    assert [member.id for member in cluster.members()] == ["n1"]
    # A node with a replica that was there before (overwrite = true), and one with a new server.
    n2.proxy.start()
    cluster.wait_whole(members=2)
    n3.proxy.start()
    cluster.wait_whole(members=3)
    for client in clients:
        client.wait_progress()
    # Clients move over one by one, to any proxy.
    for client, node in zip(clients, (n1, n2, n3)):
        client.move(node.clients)
    for client in clients:
        client.wait_progress()
    # The replica that stayed follows the master's server as before.
    assert in_sync_soon(old.direct_client(), master)


def in_sync_soon(replica, master):
    return wait_until(lambda: in_sync(replica, master), 15, "the old replica follows")


def test_a_replica_that_stayed_follows_through_a_failover(cluster, clients):
    """As long as its master's server lives; that is a follower of the chain meanwhile."""
    n1, n2, _, old = cluster.nodes
    clients[0].move(n2.clients)
    assert n1.proxy.stop(timeout=15)
    cluster.wait_whole(members=2, without=["n1"])
    n1.proxy.start()
    cluster.wait_whole(members=3)
    for client in clients:
        client.wait_progress()
    assert cluster.members()[-1] is n1
    before = clients[0].acknowledged
    wait_until(lambda: old.direct_client().llen(clients[0].name) >= before, 15,
               "the old replica has what was written since")
    old.direct_client().replicaof("NO", "ONE")
    old.redis.stop()


def test_moving_out(cluster, clients):
    head, *others = cluster.members()
    server = head.direct_client()
    # Clients go to the head's server itself: what they write there is still the chain's.
    for client in clients:
        client.move(head.backend)
    cluster.wait_whole(members=3)
    # The others' proxies end, the head's last; their servers become its ordinary replicas.
    for number, node in enumerate(others):
        assert node.proxy.stop(timeout=15)
        cluster.wait_whole(members=2 - number, without=[node.id])
        node.direct_client().replicaof(*head.backend.split(":"))
        in_sync_soon(node.direct_client(), server)
    assert head.proxy.stop(timeout=15)
    for process in cluster.coordinators + cluster.etcds:
        process.stop()
    assert server.info("replication")["role"] == "master"
    for client in clients:
        client.wait_progress()
        client.stop()
        assert not client.problems
    for node in others:
        in_sync_soon(node.direct_client(), server)
    for node in (head, *others):
        for client in clients:
            items = node.direct_client().lrange(client.name, 0, -1)
            assert [int(item) for item in items] == list(range(client.acknowledged))
