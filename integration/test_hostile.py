"""Garbage, oversized and half-finished input on every port, messages without the secret or from the
past, and clients that send without end or never read: a clear error or silence, the process lives,
and nobody else notices."""

import contextlib
import json
import os
import random
import re
import socket
import threading
import time

import pytest

from cluster import Cluster
from processes import wait_until
from test_sessions import PlainRedis
from wire import Closed, PeerWire, Wire, encode, hello

HEAVY = os.environ.get("CATENA_LIMITS") == "all"
heavy = pytest.mark.skipif(not HEAVY, reason="CATENA_LIMITS=all runs it")
LEASE = 20  # s: a process may be paused for seconds and stays a member
IDLE_BYTES = 40 << 20


@pytest.fixture(name="cluster", scope="module")
def started_cluster():
    with Cluster(nodes=3) as started:
        yield started


def secret(cluster):
    return (cluster.directory / "secret").read_text(encoding="ascii").strip()


def garbage(seed):
    """Bytes that mean nothing, and some that nearly do."""
    rng = random.Random(seed)
    yield from (rng.randbytes(rng.choice([1, 10, 1000, 100000])) for _ in range(15))
    yield from [b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01",
                b"\r\n" * 1000, b"\x00" * 5000, b"*", b"*\r\n", b"*x\r\n", b"*-5\r\n", b"*1\r\n",
                b"*1\r\n$\r\n",
                b"*1\r\n$x\r\n", b"*1\r\n$-1\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nab\r\n",
                b"*1\r\n:1\r\n", b"*1\r\n*1\r\n",
                b"+OK\r\n", b"$3\r\nabc\r\n", b":1\r\n", b"%1\r\n", b"*99999999999\r\n",
                b"*1\r\n$99999999999999\r\n",
                b"x" * 200000]


class Witness:
    """Clients at every proxy that must notice nothing: each answer right, none late."""

    def __init__(self, cluster, slowest=2.0):
        self._nodes = cluster.wait_members()
        self._slowest_allowed = slowest
        self._running = True
        self._threads = [threading.Thread(target=self._run, args=numbered)
                         for numbered in enumerate(self._nodes)]
        self.problems = []
        self.rounds = [0] * len(self._nodes)
        self.slowest = 0.0

    def _run(self, number, node):
        try:
            with Wire(node.clients) as wire:
                while self._running:
                    count = self.rounds[number] = self.rounds[number] + 1
                    begun = time.monotonic()
                    assert wire.call("SET", f"witness:{number}", count) == b"+OK\r\n"
                    assert wire.call("GET", f"witness:{number}").endswith(b"\r\n%d\r\n" % count)
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    time.sleep(0.002)
        except Exception as error:  # pylint: disable=broad-except
            self.problems.append(f"at {node.id}: {error!r}")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        wait_until(lambda: all(self.rounds) or self.problems, 10, "the witnesses are at work")
        return self

    def __exit__(self, failure, *_):
        seen = list(self.rounds)
        if failure is None:  # they still get answers afterwards
            wait_until(lambda: all(a > b for a, b in zip(self.rounds, seen)) or self.problems, 10,
                       "answers go on")
        self._running = False
        for thread in self._threads:
            thread.join()
        if failure is None:
            assert not self.problems
            print(f"{sum(self.rounds)} rounds beside it, the slowest {1000 * self.slowest:.0f} ms")
            assert self.slowest < self._slowest_allowed


@contextlib.contextmanager
def unmoved(cluster):
    """The chain is in the same epoch, with the same processes and links, before and after."""
    def state():
        # A database that is connected anew shows it here.
        links = [[(c["id"], c["addr"]) for c in node.direct_client().client_list()
                  if "M" in c["flags"]]
                 for node in cluster.nodes if node.redis]
        record = cluster.chain_status()["record"]["configuration"]
        return record, [p.pid for p in cluster.processes()], links

    before = state()
    with Witness(cluster):
        yield
    cluster.check_alive()
    assert state() == before
    cluster.wait_whole()


def throw(address, data):
    """Sends bytes and the end of them, and returns all that comes back."""
    with Wire(address) as wire:
        with contextlib.suppress(ConnectionError):
            wire.send(data)
        with contextlib.suppress(OSError):
            wire.socket.shutdown(socket.SHUT_WR)
            return wire.rest()
        return b""


# --- the clients' port ---


def test_garbage_at_the_clients_port(cluster):
    with unmoved(cluster):
        for node in cluster.nodes:
            for data in garbage(node.id):
                throw(node.clients, data)
            for _ in range(3):
                with Wire(node.clients) as wire:
                    assert wire.call("PING") == b"+PONG\r\n"


@pytest.mark.parametrize("data", [
    b"*abc\r\n", b"*1\r\nx\r\n", b"*1\r\n$abc\r\n", b"*1\r\n$-5\r\n", b"*9999999999\r\n",
    b"x" * 70000,
    b"*1\r\n$4\r\nPING\r\n*1\r\n:1\r\n", b"SET 'x\r\n", b"*" + b"1" * 70000,
    b"*1\r\n$" + b"1" * 70000,
    b"*1\r\n$9999999999\r\n", b"PING\r\nPING \"\r\n"], ids=range(12))
def test_protocol_errors_are_those_of_redis(cluster, data):
    with PlainRedis(cluster) as plain, Wire(plain.address) as right, \
            Wire(cluster.tail().clients) as wire:
        right.send(data)
        wire.send(data)
        # It closes at what it dislikes; what it did not read may turn that into a reset.
        assert wire.rest() == right.rest()


def test_half_a_command_has_no_effect_and_costs_nothing(cluster):
    node = cluster.tail()
    before = node.proxy.resident_bytes()
    with unmoved(cluster), contextlib.ExitStack() as stack:
        halves = [b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$5\r\nab",
                  b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$500000000\r\nab",
                  b"SET half inli", b"*3\r\n$3\r\nSE", b"*3", b"*1000000\r\n$1\r\nx\r\n"]
        wires = [stack.enter_context(Wire(node.clients)) for _ in range(120)]
        for i, wire in enumerate(wires):
            wire.send(halves[i % len(halves)])
        with Wire(node.clients) as whole:
            for _ in range(200):
                assert whole.call("PING") == b"+PONG\r\n"
        grown = node.proxy.resident_bytes() - before
        print(f"{grown >> 10} KB more with {len(wires)} of them")
        assert grown < 30 << 20
    assert node.redis_client().exists("half") == 0


def test_a_command_that_is_too_large(cluster):
    """Told at once, not when it has arrived."""
    with Cluster(nodes=1, settings={"chain.limits.bulk_bytes_max": "1mb"}) as small:
        with Wire(small.head().clients) as wire:
            assert wire.call("SET", "k", b"x" * (1 << 20)) == b"+OK\r\n"
            wire.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % ((1 << 20) + 1))
            assert wire.rest() == b"-ERR Protocol error: invalid bulk length\r\n"
    cluster.check_alive()


# --- the peers' port ---


def peer_ports(cluster):
    return [node.peers for node in cluster.nodes] + [c.address for c in cluster.coordinators]


def test_garbage_at_the_peers_and_the_coordinators_port(cluster):
    with unmoved(cluster):
        for address in peer_ports(cluster):
            for data in garbage(address):
                answer = throw(address, data)
                assert answer == b"" or answer.startswith(b"-NOAUTH "), (data[:50], answer)


def test_commands_without_the_secret(cluster):
    with unmoved(cluster):
        configuration = cluster.chain_status()["record"]["configuration"]
        first, second = configuration["members"][:2]
        messages = [encode("PING"), encode("CATENA.STATUS"), encode("CATENA.CHOOSE", "main", "n3"),
                    encode("CATENA.HEARTBEAT", "{}"), encode("CATENA.APPEND", 0, "x"),
                    encode("CATENA.FORWARD", "main", "head", "n2", 1, 1, 0, 2, "")
                    + encode("FLUSHALL"),
                    hello(configuration, first["id"], first["incarnation"], second["id"],
                          second["incarnation"])]
        for address in peer_ports(cluster):
            for message in messages:
                with Wire(address) as wire:
                    wire.send(message)
                    assert wire.rest().startswith(b"-NOAUTH ")


def test_another_secret_or_cluster(cluster):
    with unmoved(cluster):
        for address in peer_ports(cluster):
            with PeerWire(address, "not the secret") as wire:
                assert wire.answer.startswith(b"-WRONGSECRET ")
                assert not wire.listener_proved
                assert wire.rest() == b""
            with PeerWire(address, secret(cluster), cluster="other") as wire:
                assert wire.answer.startswith(b"-WRONGCLUSTER ")
                assert wire.rest() == b""
            with PeerWire(address, secret(cluster)) as wire:
                assert wire.answer == b"+OK\r\n" and wire.listener_proved
            with Wire(address) as wire:  # a proof that was heard elsewhere
                wire.call("CATENA.AUTH", "1", "catena", "00" * 16)
                assert wire.call("CATENA.PROVE", "00" * 32).startswith(b"-WRONGSECRET ")


def test_half_a_handshake_is_dropped(cluster):
    """In time, and without being in the way of anybody else, however many there are."""
    with unmoved(cluster), contextlib.ExitStack() as stack:
        for address in peer_ports(cluster):
            idle = [stack.enter_context(Wire(address, timeout=30)) for _ in range(300)]
            for wire in idle[:100]:
                wire.send(b"*4\r\n$11\r\nCATENA.AUTH\r\n")
            with PeerWire(address, secret(cluster)) as wire:
                assert wire.answer == b"+OK\r\n"
            begun = time.monotonic()
            assert idle[0].rest() == b""
            assert time.monotonic() - begun < 20


def test_a_failover_among_idle_connections():
    """Somebody fills the peers' ports; the chain is repaired as if nobody did."""
    with Cluster(nodes=3) as cluster, contextlib.ExitStack() as stack:
        for node in cluster.nodes:
            for _ in range(300):
                stack.enter_context(Wire(node.peers))
        cluster.middle().proxy.kill()
        cluster.wait_whole(members=2, timeout=4)
        assert cluster.tail().redis_client().set("k", "v")


def malformed():
    configuration = json.dumps({"chain": "main", "epoch": 1000000, "members": [
        {"id": "n1", "incarnation": 1, "clients": "", "peers": "", "backend_run_id": ""}]})
    yield from [
        encode("NONSENSE"), encode("CATENA.APPEND"), encode("CATENA.APPEND", "x", "y"),
        encode("CATENA.ACK", -1),
        encode("CATENA.ACK", "99999999999999999999999"),
        encode("CATENA.HELLO", "{", "a", 1, "b", 2, "chain", ""),
        encode("CATENA.HELLO", "{}", "a", 1, "b", 2, "chain", ""),
        encode("CATENA.HELLO", configuration, "a", 1, "b", 2),
        encode("CATENA.HELLO", configuration, "a", "x", "b", 2, "chain", ""),
        encode("CATENA.HELLO", configuration, "a", 1, "b", 2, "neither", ""),
        encode("CATENA.HELLO", "[" * 100000, "a", 1, "b", 2, "chain", ""),
        encode("CATENA.HELLO", '{"chain":"main","epoch":5,"members":[]}', "a", 1, "b", 2,
               "chain", ""),
        encode("CATENA.HELLO", '{"chain":"main","epoch":-5,"members":7}', "a", 1, "b", 2,
               "chain", ""),
        encode("CATENA.FORWARD"), encode("CATENA.FORWARD", "main", "middle", "x", 1, 1, 0, 2, ""),
        encode("CATENA.FORWARD", "main", "head", "x", "y", 1, 0, 2, ""),
        encode("CATENA.FORWARD", "no", "head", "x", 1, 1, 0, 2),
        encode("CATENA.FORWARD", "main", "head", "x", 1, 1, 99999999999, 2, ""),
        encode("CATENA.FORWARD", "main", "head", "x", 1, 1, 0, 7, ""),
        encode("CATENA.HEARTBEAT", "{"), encode("CATENA.HEARTBEAT", "{}"),
        encode("CATENA.HEARTBEAT", "[1,2]"),
        encode("CATENA.HEARTBEAT", json.dumps({"cluster": "catena", "chain": 7})),
        encode("CATENA.HEARTBEAT", "[" * 50000),
        encode("CATENA.HEARTBEAT",
               json.dumps({"cluster": "other", "chain": "main", "node": "n1", "incarnation": 1,
                           "phase": "member"})),
        encode("CATENA.HEARTBEAT",
               json.dumps({"cluster": "catena", "chain": "no", "node": "n1", "incarnation": 1,
                           "phase": "member"})),
        encode("CATENA.HEARTBEAT",
               json.dumps({"cluster": "catena", "chain": "main", "node": "stranger",
                           "incarnation": 1, "phase": "candidate"})),
        encode("CATENA.CHOOSE", "no", "n1"), encode("CATENA.CHOOSE", "main", "nobody"),
        encode("CATENA.STATUS", "x"),
        encode("CATENA.CHUNK", "x"), encode("CATENA.START", 5), encode("CATENA.TARGET", 5),
        encode("CATENA.SNAPSHOTEND"),
        encode("CATENA.ASK", "verify", "x", 1), encode("CATENA.ANSWER", "query", "x", 1, 10 ** 18),
        encode("CATENA.OFFER", "x", 5), encode("CATENA.WELCOME", 5, "x"),
        encode("CATENA.JOINED", 5, 1),
        encode("CATENA.REFUSE", "x", configuration), encode("CATENA.CANNOT", "x"),
        encode("CATENA.VERIFY", "x", 1),
        b"*1\r\n$100000000\r\n", b"*100000\r\n", b"x" * 10000, b"\x00" * 100,
    ]


def test_malformed_messages_of_somebody_with_the_secret(cluster):
    """A faulty process of the cluster: its message is refused or ignored, and harms no one."""
    with unmoved(cluster):
        for address in peer_ports(cluster):
            for message in malformed():
                with PeerWire(address, secret(cluster)) as wire:
                    with contextlib.suppress(ConnectionError):
                        wire.send(message)
                    with contextlib.suppress(ConnectionError, socket.timeout):
                        wire.set_timeout(0.02)
                        wire.reply()


def test_a_link_of_the_past_is_refused(cluster):
    """S3, S15: an epoch that passed, another incarnation on either side, not the predecessor."""
    configuration = cluster.chain_status()["record"]["configuration"]
    members, epoch = configuration["members"], configuration["epoch"]
    (head, head_life), (middle, life) = [(m["id"], m["incarnation"]) for m in members[:2]]
    tail, tail_life = members[2]["id"], members[2]["incarnation"]
    past = dict(configuration, epoch=epoch - 1, members=members[:2])
    position = cluster.node(middle).redis_client().info("everything")["catena_received"]
    attempts = [
        (hello(past, head, head_life, middle, life), f"epoch is {epoch} here"),
        (hello(configuration, head, head_life, middle, life - 1),
         f"this is {middle} in incarnation {life}"),
        (hello(configuration, head, head_life, tail, tail_life),
         f"this is {middle} in incarnation {life}"),
        (hello(configuration, head, head_life - 1, middle, life),
         f"predecessor in this epoch is {head}"),
        (hello(configuration, tail, tail_life, middle, life),
         f"predecessor in this epoch is {head}"),
        (hello(past, head, head_life, middle, life, join=True), "does not want to join now"),
    ]
    stray = b"*3\r\n$3\r\nSET\r\n$4\r\npast\r\n$1\r\nx\r\n"
    with unmoved(cluster):
        for message, reason in attempts:
            with PeerWire(cluster.node(middle).peers, secret(cluster)) as wire:
                wire.send(message)
                refusal = wire.reply().decode()
                assert "CATENA.REFUSE" in refusal and reason in refusal, refusal
                newer = re.search(r"\{.*\}", refusal)
                assert json.loads(newer[0]) == configuration if newer else "want to join" in reason
                with contextlib.suppress(ConnectionError):
                    wire.send(encode("CATENA.START", position)
                              + encode("CATENA.APPEND", position, stray))
                assert wire.rest() == b""
        for node in cluster.nodes:
            assert node.direct_client().exists("past") == 0


def test_data_without_a_link_is_dropped(cluster):
    """Messages of the chain on a connection that is nobody's link change nothing."""
    stray = b"*3\r\n$3\r\nSET\r\n$4\r\npast\r\n$1\r\nx\r\n"
    with unmoved(cluster):
        for node in cluster.nodes:
            at = node.redis_client().info("everything")["catena_received"]
            for message in [encode("CATENA.APPEND", at, stray), encode("CATENA.ACK", at + 100),
                            encode("CATENA.TARGET", 0)]:
                with PeerWire(node.peers, secret(cluster)) as wire:
                    wire.send(message)
                    wire.set_timeout(0.05)
                    with contextlib.suppress(ConnectionError, socket.timeout):
                        wire.reply()
        for node in cluster.nodes:
            assert node.direct_client().exists("past") == 0


def test_a_heartbeat_of_the_past(cluster):
    """An earlier life of a member is told that it is over; the one that lives notices nothing."""
    chain = cluster.chain_status()
    report = dict(next(n["report"] for n in chain["nodes"] if n["report"]["node"] == "n2"))
    with unmoved(cluster):
        old = dict(report, incarnation=report["incarnation"] - 1000, number=1, epoch=1)
        with PeerWire(cluster.coordinators[0].address, secret(cluster)) as wire:
            answer = wire.call("CATENA.HEARTBEAT", json.dumps(old)).decode()
            assert "HEARTBEAT" in answer
            told = json.loads(re.search(r"\{.*\}", answer)[0])
            assert told["incarnation_void"] and told["lease"] == 0


def test_forwarding_to_who_is_not_the_head(cluster):
    forward = ("CATENA.FORWARD", "main", "head", "test", 5)
    with unmoved(cluster):
        with PeerWire(cluster.tail().peers, secret(cluster)) as wire:
            refusal = wire.call("CATENA.FORWARD", "main", "head", "test", 1, 1, 0, 2, "")
            assert refusal.startswith(b"-CHAINDOWN ")
        # S18: a later connection of a sender takes the earlier one's place, not the reverse.
        with PeerWire(cluster.head().peers, secret(cluster)) as late, \
                PeerWire(cluster.head().peers, secret(cluster)) as early:
            assert late.call(*forward, 2, 0, 2, "") == b"+OK\r\n"
            assert early.call(*forward, 1, 0, 2, "") == b"-ERR superseded\r\n"
            assert late.call("SET", "forwarded", "1") == b"+OK\r\n"
            with PeerWire(cluster.head().peers, secret(cluster)) as later:
                assert later.call(*forward, 3, 0, 2, "") == b"+OK\r\n"
                with contextlib.suppress(ConnectionError):
                    late.send(encode("SET", "forwarded", "2"))
                assert late.rest() == b""
                assert later.call("GET", "forwarded") == b"$1\r\n1\r\n"


# --- where a proxy is the master of its Redis ---


def replication_listener(node):
    replication = node.direct_client().info("replication")
    return f"{replication['master_host']}:{replication['master_port']}", replication


@pytest.mark.redis_only("there is no process of its own")
@pytest.mark.parametrize("position", ["middle", "tail"])
def test_garbage_at_the_replication_listener(cluster, position):
    node = cluster.at(position)
    address, _ = replication_listener(node)
    with unmoved(cluster), contextlib.ExitStack() as stack:
        for data in garbage(position):
            throw(address, data)
        for _ in range(50):
            stack.enter_context(Wire(address)).send(b"*3\r\n$8\r\nREPLCO")
        for command in [("GET", "k"), ("SYNC",), ("PSYNC",), ("PSYNC", "?", "x"),
                        ("REPLCONF", "ACK", 10 ** 15),
                        ("REPLCONF", "GETACK", "*"), ("SET", "k", "v"),
                        ("PSYNC", "?", "-1", "FAILOVER")]:
            throw(address, encode(*command))


@pytest.mark.redis_only("there is no process of its own")
@pytest.mark.parametrize("position", ["middle", "tail"])
def test_another_redis_at_the_replication_listener(cluster, position):
    """It is fed nothing, and the one that belongs there stays connected."""
    node = cluster.at(position)
    address, replication = replication_listener(node)
    asks = [("PSYNC", "?", "-1"), ("PSYNC", "f" * 40, 1),
            ("PSYNC", replication["master_replid"], replication["master_repl_offset"] + 1)]
    with unmoved(cluster):
        for ask in asks:
            with Wire(address) as wire:
                assert wire.call("PING") == b"+PONG\r\n"
                assert wire.call("REPLCONF", "listening-port", 7) == b"+OK\r\n"
                wire.send(encode(*ask))
                cluster.head().redis_client().set("secret", "fed")
                wire.set_timeout(0.3)
                with contextlib.suppress(ConnectionError, socket.timeout):
                    assert wire.reply().startswith(b"-"), ask
                with contextlib.suppress(ConnectionError, socket.timeout):
                    wire.send(encode("REPLCONF", "ACK", 10 ** 15))
                    assert b"fed" not in wire.reply()


# --- memory ---


def test_an_idle_proxy_is_small():
    with Cluster(nodes=3, spares=1) as cluster:
        for process in [node.proxy for node in cluster.nodes] + cluster.coordinators:
            used = process.resident_bytes()
            print(f"{process.name}: {used >> 20} MB")
            assert used < IDLE_BYTES


LIMITS = {"chain.limits.backlog_bytes": "1mb", "chain.limits.log_bytes_max": "8mb",
          "chain.limits.pending_bytes_max": "8mb",
          "chain.limits.client_output_bytes_max": "4mb", "chain.limits.client_pipeline_max": "1000",
          "chain.limits.join_bytes_max": "64mb", "coordinator.lease": f"{LEASE}s",
          "chain.write_timeout": "30s"}


class Pusher:
    """Clients that write as fast as they are let, and check every answer."""

    def __init__(self, nodes, clients, value, may_be_unknown=False):
        self._may_be_unknown = may_be_unknown
        self._commands = encode("SET", "pushed", b"x" * value)
        self._running = True
        self.sent = self.answered = 0
        self.problems = []
        self._lock = threading.Lock()
        wires = [Wire(nodes[i % len(nodes)].clients, timeout=60) for i in range(clients)]
        self._threads = [threading.Thread(target=self._push, args=(wire,), daemon=True)
                         for wire in wires]

    def _push(self, wire):
        reader = threading.Thread(target=self._read, args=(wire,), daemon=True)
        reader.start()
        try:
            while self._running:
                wire.send(self._commands)
                with self._lock:
                    self.sent += 1
            wire.send(encode("PING"))
        except OSError as error:
            self.problems.append(repr(error))
        reader.join()
        wire.close()

    def _read(self, wire):
        try:
            while (reply := wire.reply()) != b"+PONG\r\n":
                with self._lock:
                    self.answered += 1
                unknown = self._may_be_unknown and reply.startswith(b"-UNKNOWNOUTCOME")
                if reply != b"+OK\r\n" and not unknown:
                    self.problems.append(reply)
        except (OSError, Closed) as error:
            self.problems.append(repr(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._running = False
        for thread in self._threads:
            thread.join(60)
        assert not self.problems
        assert self.answered == self.sent


class Peak(threading.Thread):
    """The most that each process held at any moment."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self._processes = processes
        self._running = True
        self.bytes = {p.name: p.resident_bytes() for p in processes}

    def run(self):
        while self._running:
            for process in self._processes:
                self.bytes[process.name] = max(self.bytes[process.name], process.resident_bytes())
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._running = False
        self.join()
        print({name: f"{size >> 20} MB" for name, size in self.bytes.items()})


@pytest.mark.parametrize("through, seconds", [("head", 0), ("middle", 0),
                                              pytest.param("head", 60, marks=heavy)])
def test_a_tail_that_stops_reading(through, seconds):
    """Nothing commits while writers push: they are slowed down, and no answer turns out wrong. Once
    its lease has run out the others go on without it."""
    with Cluster(nodes=3, settings=LIMITS) as cluster:
        proxies = [node.proxy for node in cluster.nodes]
        node, tail, clients, value = cluster.at(through), cluster.tail(), 40, 20000
        with Peak(proxies) as peak, Pusher([node], clients, value) as pusher:
            wait_until(lambda: pusher.answered > 1000, 30, "writes flow")
            tail.proxy.pause()
            try:
                sent = [-1]

                def stuck():
                    now, before = pusher.sent, sent[0]
                    sent[0] = now
                    return now == before

                wait_until(stuck, 30, "the writers are held up", interval=1.0)
                print(f"{pusher.sent - pusher.answered} writes of {value} bytes under way")
                time.sleep(seconds)
            finally:
                tail.proxy.resume()
            done = pusher.answered
            wait_until(lambda: pusher.answered > done + 1000, 30, "writes flow again")
        # Log, what waits for the database or the head, each client's input; and as much again twice
        # for what is on its way between them.
        allowed = IDLE_BYTES + 3 * ((8 << 20) + (8 << 20) + clients * (512 << 10))
        assert max(peak.bytes.values()) < allowed
        cluster.wait_whole()
        cluster.wait_position()


@pytest.mark.parametrize("through", ["head", "tail"])
def test_clients_that_never_read(through):
    """Each asks for a gigabyte and reads none of it; others go on as before."""
    with Cluster(nodes=3, settings=LIMITS) as cluster:
        node = cluster.at(through)
        clients, value = 5, 1 << 20
        cluster.head().redis_client().set("large", b"x" * value)
        cluster.wait_position()
        with Peak([n.proxy for n in cluster.nodes]) as peak, contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(node.clients)) for _ in range(clients)]
            with Witness(cluster, slowest=5.0):
                for wire in wires:
                    wire.send(encode("GET", "large") * 1000)
                time.sleep(2)
        # Before a connection's first answer nobody knows how large they are: 16 may be under way,
        # at the head in two places. After that the limit counts.
        allowed = IDLE_BYTES + clients * (3 * 16 * value + (4 << 20))
        assert max(peak.bytes.values()) < allowed


@pytest.mark.redis_only("there is no process of its own")
def test_a_joiner_whose_database_is_slow():
    """It keeps no more of what is written than its limit; the tail gives up at its own."""
    with Cluster(nodes=3, settings=LIMITS) as cluster:
        joiner = cluster.tail()
        assert joiner.proxy.stop()
        joiner.redis.restart()
        cluster.wait_whole(members=2, without=[joiner.id])
        tail = cluster.tail()
        pipeline = cluster.head().redis_client().pipeline(transaction=False)
        for i in range(5000):
            pipeline.set(f"key:{i}", i)
        pipeline.execute()
        # Microseconds for each key: it has the snapshot at once and needs 10 s to load it.
        joiner.direct_client().config_set("key-load-delay", 2000)
        with Peak([node.proxy for node in cluster.nodes if node is not joiner]) as others, \
                Pusher([cluster.head()], 10, 20000):
            joiner.proxy.start()
            with Peak([joiner.proxy]) as peak:
                wait_until(lambda: "the joiner is too slow" in tail.proxy.log_tail(1000), 60,
                           "the tail gives the join up", interval=0.1)
        assert max(peak.bytes.values()) < IDLE_BYTES + 3 * (8 << 20)
        assert max(others.bytes.values()) < IDLE_BYTES + (64 << 20) + 3 * ((16 + 5) << 20)
        joiner.direct_client().config_set("key-load-delay", 0)
        cluster.wait_whole()
        cluster.wait_position()
        assert joiner.direct_client().dbsize() == 5001
