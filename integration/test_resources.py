"""What surrounds a node fails slowly: a disk that takes its time, memory that is not there, clients
whose machine is gone. The others go on, and what was answered stays."""

import subprocess
import time

import pytest

import faults
from cluster import Cluster
from processes import wait_until
from slow_disk import SlowDisk, build_library
from wire import Wire, encode

MB = 1 << 20


# --- clients whose machine is gone ---


class Vanished:
    """Sixty clients of a tail, a third of them blocked, ten that do not read what they asked for."""

    def __init__(self, cluster):
        self.cluster, self.node, self.head = cluster, cluster.tail(), cluster.head()
        self.head.redis_client().set("large", b"x" * MB)
        self.wires = [Wire(self.node.clients) for _ in range(60)]
        for wire in self.wires:
            assert wire.call("PING") == b"+PONG\r\n"
        for wire in self.wires[:20]:
            wire.send(encode("BLPOP", "queue", 0))
        for wire in self.wires[20:30]:
            wire.send(encode("GET", "large") * 100)
        wait_until(lambda: self.blocked() == 20, 10, "they are blocked at the head's database")
        wait_until(lambda: self.connected() == 60, 10, "the proxy reports its clients")
        cluster.cut(self.node, "clients")

    def blocked(self):
        return self.head.direct_client().info("clients")["blocked_clients"]

    def connected(self):
        """As the proxy reports to the coordinator."""
        return next(node["report"]["clients_connected"]
                    for node in self.cluster.chain_status()["nodes"]
                    if node["report"]["node"] == self.node.id)


@pytest.fixture(name="vanished", scope="module", autouse=True)
def vanished_clients():
    """Cut off before the other tests, for it takes half a minute."""
    if not faults.available():
        yield None
        return
    with Cluster(nodes=3, own_networks=True) as cluster:
        # By default the kernel tries 15 times, a quarter of an hour.
        subprocess.run([*cluster.network.command(cluster.tail().id), "sysctl", "-q", "-w",
                        "net.ipv4.tcp_retries2=6"], check=True)
        yield Vanished(cluster)


# --- a slow disk ---


@pytest.fixture(name="slow", scope="module")
def cluster_with_slow_disks(tmp_path_factory):
    library = build_library(tmp_path_factory.mktemp("slow"))
    # It waits for its disk before it answers.
    cluster = Cluster(nodes=3, redis_args=["--appendonly", "yes", "--appendfsync", "always"])
    disks = {node.id: SlowDisk(node, library) for node in cluster.nodes}
    with cluster:
        yield cluster, disks


@pytest.mark.parametrize("position", ["head", "tail"])
def test_a_disk_that_takes_a_third_of_a_second(slow, position):
    """Writes take as long as the slowest that they wait for; reads elsewhere notice nothing."""
    cluster, disks = slow
    cluster.wait_whole()
    node, other = cluster.at(position), cluster.middle()
    epoch = cluster.chain_status()["record"]["configuration"]["epoch"]
    with Wire(node.clients) as writer, Wire(other.clients) as reader:
        assert writer.call("SET", "quiet", "1") == b"+OK\r\n"
        cluster.wait_position()
        disks[node.id].set(300)
        try:
            begun = time.monotonic()
            for number in range(5):
                assert writer.call("SET", "slow", number) == b"+OK\r\n"
                asked = time.monotonic()
                assert reader.call("GET", "quiet") == b"$1\r\n1\r\n"
                assert time.monotonic() - asked < 0.2
            # The tail's receipt commits; its disk holds up only who reads there what it applies.
            assert (time.monotonic() - begun > 1.5) == (position == "head")
        finally:
            disks[node.id].set(0)
    cluster.wait_position()
    assert {n.direct_client().get("slow") for n in cluster.nodes} == {b"4"}
    assert cluster.chain_status()["record"]["configuration"]["epoch"] == epoch


def test_a_disk_that_stands_still(slow):
    """Of the head's Redis: it is taken for lost, another head goes on, and it comes back."""
    cluster, disks = slow
    cluster.wait_whole()
    head, writer_at = cluster.head(), cluster.middle()
    disks[head.id].set(8000)
    try:
        with Wire(head.clients) as stuck, Wire(writer_at.clients) as writer:
            stuck.send(encode("SET", "stuck", 1))
            cluster.wait_whole(members=2, without=[head.id], timeout=20)
            assert stuck.reply().startswith(b"-UNKNOWNOUTCOME ")
            assert writer.call("SET", "other", "head") == b"+OK\r\n"
    finally:
        disks[head.id].set(0)
    cluster.wait_whole()
    cluster.wait_position()
    assert {n.direct_client().get("other") for n in cluster.nodes} == {b"head"}
    assert len({n.direct_client().get("stuck") for n in cluster.nodes}) == 1


# --- memory that is not there ---


def test_a_proxy_that_gets_no_more_memory(slow):
    """It ends, as in any crash: the chain goes on without it, and has it back when it starts."""
    cluster, _ = slow
    cluster.wait_whole()
    tail = cluster.tail()
    unlimited = tail.proxy.argv
    tail.proxy.stop()
    tail.proxy.argv = ["prlimit", f"--data={80 * MB}", *unlimited]
    tail.proxy.start()
    cluster.wait_whole()
    tail.proxy.expected_down = True
    with Wire(tail.clients) as wire:
        with pytest.raises(OSError):
            wire.send(encode("SET", "large", b"x" * (200 * MB)))
            wire.rest()
            wire.send(b"the connection is closed")
            raise ConnectionResetError
    wait_until(lambda: not tail.proxy.running(), 10, "the proxy ends")
    cluster.wait_whole(members=2, without=[tail.id])
    assert cluster.head().redis_client().set("goes", "on")
    assert cluster.head().redis_client().exists("large") == 0
    tail.proxy.argv = unlimited
    tail.proxy.start()
    cluster.wait_whole()


# --- the end of the first ---


def test_half_open_connections(vanished):
    """Idle and blocked ones end within half a minute; those that do not read their answers when the
    kernel gives up sending (net.ipv4.tcp_retries2). Others notice nothing."""
    if vanished is None:
        pytest.skip("no right to make network namespaces")
    cluster, node, head = vanished.cluster, vanished.node, vanished.head
    with Wire(head.clients) as other:
        def gone():
            assert other.call("SET", "other", "client") == b"+OK\r\n"
            return vanished.connected() == 0

        wait_until(gone, 60, lambda: f"{vanished.connected()} of 60 are left", interval=0.2)
    assert vanished.blocked() == 0
    cluster.heal()
    for wire in vanished.wires:
        wire.socket.close()
    # Those who are gone take nothing.
    assert node.redis_client().rpush("queue", "element") == 1
    assert node.redis_client().lpop("queue") == b"element"
