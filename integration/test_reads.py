"""What reads show while writes are under way, and what each consistency mode promises."""

import contextlib
import threading
import time

import pytest

from cluster import Cluster
from processes import wait_until
from wire import Wire, encode

LEASE = 20  # s: a process may be paused for seconds and stays a member


@pytest.fixture(name="cluster", scope="module")
def patient_cluster():
    settings = {"coordinator.lease": f"{LEASE}s", "chain.write_timeout": "15s"}
    with Cluster(nodes=3, settings=settings) as started:
        yield started


class Paused:
    """The tail's proxy is stopped: what is written reaches the middle and is not committed."""

    def __init__(self, cluster):
        self._tail = cluster.tail().proxy

    def __enter__(self):
        self._tail.pause()
        return self

    def __exit__(self, *_):
        self._tail.resume()


def catena(node):
    """INFO's `# Catena` section."""
    section = node.redis_client().execute_command("INFO", "everything")
    return {name[7:]: value for name, value in section.items() if name.startswith("catena_")}


def write_without_commit(cluster, writer, key, value):
    """Sends a SET through the head and waits until the middle has received it."""
    before = catena(cluster.middle())["received"]
    writer.send(encode("SET", key, value))
    wait_until(lambda: catena(cluster.middle())["received"] > before, 10, "the middle received it")


def refused(reply):
    return reply if reply.startswith(b"-") else None


def bulk(value):
    return b"$%d\r\n%b\r\n" % (len(value), value)


# --- dirty and clean keys ---


@pytest.mark.parametrize("position", ["head", "middle"])
def test_a_dirty_key_waits_and_a_clean_one_does_not(cluster, position):
    node = cluster.at(position)
    client = cluster.head().redis_client()
    client.mset({"dirty": "old", "clean": "c"})
    cluster.wait_position()
    with Wire(node.clients) as reader, Wire(node.clients) as keyless, Wire(node.clients) as other, \
            Wire(cluster.head().clients) as writer:
        with Paused(cluster):
            write_without_commit(cluster, writer, "dirty", "new")
            reader.send(encode("GET", "dirty"))
            keyless.send(encode("DBSIZE"))
            took = []
            for _ in range(200):
                begun = time.monotonic()
                assert other.call("GET", "clean") == bulk(b"c")
                assert other.call("MGET", "clean", "none") == b"*2\r\n$1\r\nc\r\n$-1\r\n"
                took.append(time.monotonic() - begun)
            print(f"clean reads: slowest {1000 * max(took):.1f} ms")
            assert not reader.answered_within(0.5)
            assert not keyless.answered_within(0.1)
            assert not writer.answered_within(0.1)
        assert writer.reply() == b"+OK\r\n"
        assert reader.reply() == bulk(b"new")
        assert keyless.reply().startswith(b":")


def test_reads_of_one_connection_stay_in_order_behind_a_dirty_one(cluster):
    cluster.head().redis_client().mset({"dirty": "old", "clean": "c"})
    cluster.wait_position()
    with Wire(cluster.middle().clients) as reader, Wire(cluster.head().clients) as writer:
        with Paused(cluster):
            write_without_commit(cluster, writer, "dirty", "new")
            reader.send(encode("GET", "clean") + encode("GET", "dirty") + encode("GET", "clean"))
            assert reader.reply() == bulk(b"c")
            assert not reader.answered_within(0.3)
        assert reader.replies(2) == [bulk(b"new"), bulk(b"c")]


def test_a_dirty_read_gives_up_with_an_error():
    """When nothing commits for write_timeout."""
    settings = {"coordinator.lease": f"{LEASE}s", "chain.write_timeout": "500ms"}
    with Cluster(nodes=3, settings=settings) as cluster:
        cluster.head().redis_client().set("dirty", "old")
        cluster.wait_position()
        with Wire(cluster.middle().clients) as reader, Wire(cluster.head().clients) as head, \
                Wire(cluster.head().clients) as writer:
            with Paused(cluster):
                write_without_commit(cluster, writer, "dirty", "new")
                reader.send(encode("GET", "dirty"))
                head.send(encode("GET", "dirty"))
                assert reader.reply().startswith(b"-CHAINDOWN ")
                assert head.reply().startswith(b"-CHAINDOWN ")
                assert writer.reply().startswith(b"-UNKNOWNOUTCOME ")
            assert reader.call("GET", "dirty") == bulk(b"new")


# --- version queries ---


def test_a_round_trip_takes_one_version_query(cluster):
    """5,000 reads/s of one hot dirty key at the middle; the tail takes 100 ms to answer."""
    middle, cycles, readers = cluster.middle(), 10, 1000
    client = cluster.head().redis_client()
    client.set("hot", "0")
    cluster.wait_position()
    wires = [Wire(middle.clients) for _ in range(readers)]
    request = encode("GET", "hot")
    before = catena(middle)
    seconds = 0.0
    try:
        with Wire(cluster.head().clients) as writer:
            for cycle in range(1, cycles + 1):
                with Paused(cluster):
                    write_without_commit(cluster, writer, "hot", cycle)
                    begun = time.monotonic()
                    for wire in wires:
                        wire.send(request)
                    assert not wires[0].answered_within(max(0.001, begun + 0.1 - time.monotonic()))
                # They asked while the write was not committed: the old or the new value is right.
                allowed = {bulk(str(c).encode()) for c in (cycle - 1, cycle)}
                for wire in wires:
                    assert wire.reply() in allowed
                seconds += time.monotonic() - begun
                assert writer.reply() == b"+OK\r\n"
    finally:
        for wire in wires:
            wire.close()
    after = catena(middle)
    queries = after["version_queries"] - before["version_queries"]
    dirty = after["reads_dirty"] - before["reads_dirty"]
    rate = cycles * readers / seconds
    print(f"{cycles * readers} reads at {rate:.0f}/s, {dirty} of a dirty key, {queries} queries")
    assert rate > 5000
    assert dirty >= cycles * readers / 2
    # One in flight, and at most one more for those that arrived while it was.
    assert queries <= 2 * cycles


class HotReader(threading.Thread):
    """Pipelines of reads of one key at a steady rate; checks that the value never goes back."""

    def __init__(self, node, key, rate, seconds):
        super().__init__()
        self._wire = Wire(node.clients)
        self._key, self._rate, self._seconds = key, rate, seconds
        self.reads = 0
        self.problem = None

    def run(self):
        try:
            self._read()
        except Exception as error:  # pylint: disable=broad-except
            self.problem = repr(error)
        finally:
            self._wire.close()

    def _read(self):
        begun, newest = time.monotonic(), 0
        while time.monotonic() < begun + self._seconds:
            wanted = int((time.monotonic() - begun) * self._rate) - self.reads
            if wanted <= 0:
                time.sleep(0.001)
                continue
            self._wire.send(encode("GET", self._key) * wanted)
            for reply in self._wire.replies(wanted):
                value = int(reply.split(b"\r\n")[1])
                assert value >= newest, f"{value} after {newest}"
                newest = value
            self.reads += wanted


def test_version_queries_under_a_steady_load(cluster):
    """5,000 reads/s of a key that is written: no more queries than fit one after another."""
    middle, seconds = cluster.middle(), 4
    cluster.head().redis_client().set("hot", "0")
    before = catena(middle)
    readers = [HotReader(middle, "hot", 1250, seconds) for _ in range(4)]
    begun = time.monotonic()
    for reader in readers:
        reader.start()
    writes, value = 0, 0
    with Wire(cluster.head().clients) as writer:
        while any(reader.is_alive() for reader in readers):
            writer.send(b"".join(encode("SET", "hot", value + i) for i in range(1, 6)))
            writer.replies(5)
            value, writes = value + 5, writes + 5
    elapsed = time.monotonic() - begun
    for reader in readers:
        reader.join()
        assert reader.problem is None
    after = catena(middle)
    queries = after["version_queries"] - before["version_queries"]
    dirty = after["reads_dirty"] - before["reads_dirty"]
    reads = sum(reader.reads for reader in readers)
    trip = round_trip(cluster.tail())
    print(f"{reads / elapsed:.0f} reads/s, {writes / elapsed:.0f} writes/s; {dirty} reads of a "
          f"dirty key, {queries} queries; {elapsed / trip:.0f} round trips of {1e6 * trip:.0f} us "
          "fit into the time")
    assert reads / elapsed > 4500
    assert 0 < queries <= dirty
    assert queries <= elapsed / trip


def round_trip(node):
    """The fastest answer of a proxy to anything at all."""
    with Wire(node.clients) as wire:
        fastest = 1.0
        for _ in range(500):
            begun = time.monotonic()
            wire.call("PING")
            fastest = min(fastest, time.monotonic() - begun)
    return fastest


# --- consistency modes ---


def test_the_mode_of_a_connection(cluster):
    with Wire(cluster.middle().clients) as wire:
        assert wire.call("CATENA", "CONSISTENCY") == bulk(b"linearizable")
        for mode in ("sequential", "eventual", "tail", "linearizable"):
            assert wire.call("CATENA", "CONSISTENCY", mode.upper()) == b"+OK\r\n"
            assert wire.call("CATENA", "CONSISTENCY") == bulk(mode.encode())
        assert wire.call("READONLY") == b"+OK\r\n"
        assert wire.call("CATENA", "CONSISTENCY") == bulk(b"eventual")
        assert wire.call("READWRITE") == b"+OK\r\n"
        assert wire.call("CATENA", "CONSISTENCY") == bulk(b"linearizable")
        assert wire.call("CATENA", "CONSISTENCY", "strict").startswith(b"-ERR ")
        assert wire.call("CATENA", "NONSENSE").startswith(b"-ERR ")
        wire.call("READONLY")
        assert wire.call("RESET") == b"+RESET\r\n"
        assert wire.call("CATENA", "CONSISTENCY") == bulk(b"linearizable")


@pytest.mark.parametrize("mode", ["sequential", "eventual"])
def test_weaker_modes_answer_while_nothing_commits(cluster, mode):
    """At the middle they show the committed value, without waiting for the tail."""
    cluster.head().redis_client().set("dirty", "old")
    cluster.wait_position()
    queries = catena(cluster.middle())["version_queries"]
    with Wire(cluster.middle().clients) as reader, Wire(cluster.head().clients) as writer:
        reader.call("CATENA", "CONSISTENCY", mode)
        with Paused(cluster):
            write_without_commit(cluster, writer, "dirty", "new")
            assert reader.call("GET", "dirty") == bulk(b"old")
        assert writer.reply() == b"+OK\r\n"
        wait_until(lambda: reader.call("GET", "dirty") == bulk(b"new"), 10, "the new value arrives")
    assert catena(cluster.middle())["version_queries"] == queries


@pytest.mark.parametrize("mode", ["sequential", "eventual"])
def test_no_mode_shows_what_may_still_be_lost_at_the_head(cluster, mode):
    cluster.head().redis_client().set("dirty", "old")
    cluster.wait_position()
    with Wire(cluster.head().clients) as reader, Wire(cluster.head().clients) as writer:
        reader.call("CATENA", "CONSISTENCY", mode)
        with Paused(cluster):
            write_without_commit(cluster, writer, "dirty", "new")
            reader.send(encode("GET", "dirty"))
            assert not reader.answered_within(0.3)
        assert reader.reply() == bulk(b"new")


@pytest.mark.parametrize("position", ["middle", "tail"])
def test_sequential_sees_its_own_writes_and_never_goes_back(cluster, position):
    """One connection writes and reads; another one's writes are only seen in order."""
    node = cluster.at(position)
    with Wire(node.clients) as wire, Wire(cluster.head().clients) as other:
        wire.call("CATENA", "CONSISTENCY", "sequential")
        other.call("SET", "theirs", 0)
        wait_until(lambda: wire.call("EXISTS", "theirs") == b":1\r\n", 10, "theirs is there")
        newest = 0
        for i in range(500):
            other.send(encode("SET", "theirs", i))
            assert wire.call("SET", "mine", i) == b"+OK\r\n"
            assert wire.call("GET", "mine") == bulk(b"%d" % i)
            theirs = int(wire.call("GET", "theirs").split(b"\r\n")[1])
            assert theirs >= newest
            newest = theirs
            assert other.reply() == b"+OK\r\n"


def test_tail_mode_reads_at_the_tail(cluster):
    """As plain chain replication does: correct, and answered by the tail only."""
    cluster.head().redis_client().set("k", "1")
    before = catena(cluster.tail())["commands_processed"]
    with Wire(cluster.middle().clients) as wire:
        wire.call("CATENA", "CONSISTENCY", "tail")
        for i in range(100):
            assert wire.call("SET", "k", i) == b"+OK\r\n"
            assert wire.call("GET", "k") == bulk(b"%d" % i)
        assert catena(cluster.tail())["commands_processed"] >= before + 100
        with Paused(cluster):
            wire.send(encode("GET", "k"))
            assert not wire.answered_within(0.3)
        assert wire.reply() == bulk(b"99")


@pytest.mark.parametrize("mode", ["linearizable", "sequential", "eventual", "tail"])
def test_a_chains_mode_is_that_of_its_connections(mode):
    with Cluster(nodes=2, settings={"chain.consistency": mode}) as cluster:
        for node in cluster.nodes:
            with Wire(node.clients) as wire:
                assert wire.call("CATENA", "CONSISTENCY") == bulk(mode.encode())
                wire.call("READONLY")
                wire.call("READWRITE")
                assert wire.call("CATENA", "CONSISTENCY") == bulk(mode.encode())
                assert wire.call("SET", "k", "v") == b"+OK\r\n"
                assert wire.call("INFO").find(b"catena_consistency:%b\r\n" % mode.encode()) > 0
        wait_until(lambda: all(n.redis_client().get("k") == b"v" for n in cluster.nodes), 10,
                   "k is there")


@pytest.fixture(name="cut", scope="module")
def cut_cluster(own_networks):
    settings = {"chain.write_timeout": "1s"}
    with Cluster(nodes=3, own_networks=own_networks, settings=settings) as started:
        yield started


@pytest.mark.parametrize("position", ["head", "middle", "tail"])
def test_cut_off_from_everybody(cut, position):
    """Only eventual reads are answered; they show what is there, and the error names the reason."""
    cluster = cut
    cluster.wait_whole()
    node = cluster.at(position)
    cluster.head().redis_client().set("k", "v")
    cluster.wait_position()
    with Wire(node.clients) as strict, Wire(node.clients) as loose:
        assert loose.call("READONLY") == b"+OK\r\n"
        cluster.cut(node, "all")
        # Until its lease is over it may answer.
        reply = wait_until(lambda: refused(strict.call("GET", "k")), 10,
                           "a strict read fails")
        assert reply.startswith(b"-CHAINDOWN ")
        assert loose.call("GET", "k") == bulk(b"v")
        assert strict.call("SET", "other", "w").startswith((b"-CHAINDOWN ", b"-UNKNOWNOUTCOME "))
        cluster.wait_whole(members=2, without=[node.id])
        other = next(n for n in cluster.nodes if n is not node)
        other.redis_client().set("k", "newer")
        assert strict.call("GET", "k").startswith(b"-CHAINDOWN ")
        assert loose.call("GET", "k") == bulk(b"v")
        cluster.heal()
        wait_until(lambda: strict.call("GET", "k") == bulk(b"newer"), 20, "back in the chain")
        cluster.wait_whole()


@pytest.mark.parametrize("position", ["head", "middle", "tail"])
def test_max_staleness(own_networks, position):
    """A node that is cut off does not show data older than that."""
    settings = {"chain.max_staleness": "2s", "chain.consistency": "eventual",
                "chain.write_timeout": "1s"}
    with Cluster(nodes=3, own_networks=own_networks, settings=settings) as cluster:
        node = cluster.at(position)
        cluster.head().redis_client().set("k", "v")
        cluster.wait_position()
        with Wire(node.clients) as wire:
            time.sleep(2.5)  # quiet is no staleness
            assert wire.call("GET", "k") == bulk(b"v")
            cluster.cut(node, "all")
            begun = time.monotonic()
            reply = wait_until(lambda: refused(wire.call("GET", "k")), 10,
                               "an error instead of old data")
            assert 1.5 < time.monotonic() - begun < 4
            assert b"older than max_staleness" in reply
            cluster.heal()
            wait_until(lambda: wire.call("GET", "k") == bulk(b"v"), 20, "back in the chain")


def test_max_staleness_without_coordinators(own_networks):
    """A whole chain knows by itself that its data is new; two that hear only each other do not."""
    settings = {"chain.max_staleness": "2s", "chain.consistency": "eventual",
                "chain.write_timeout": "1s"}
    with (Cluster(nodes=3, own_networks=own_networks, settings=settings) as cluster,
          contextlib.ExitStack() as open_wires):
        head = cluster.head()
        head.redis_client().set("k", "v")
        cluster.wait_position()
        for node in cluster.nodes:
            cluster.cut(node, "coordinators")
        wires = [open_wires.enter_context(Wire(node.clients)) for node in cluster.nodes]
        until = time.monotonic() + 5  # longer than a lease and max_staleness
        while time.monotonic() < until:
            assert [wire.call("GET", "k") for wire in wires] == [bulk(b"v")] * 3
            time.sleep(0.1)
        cluster.cut(head, "peers")
        for wire in wires:
            wait_until(lambda wire=wire: refused(wire.call("GET", "k")), 10,
                       "an error instead of old data")
        cluster.heal()
        for wire in wires:
            wait_until(lambda wire=wire: wire.call("GET", "k") == bulk(b"v"), 20, "whole again")
