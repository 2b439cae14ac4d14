"""Data that was there before Catena, and writers that know nothing of it."""

import subprocess
import threading

import pytest

import dataset
from cluster import Cluster
from processes import wait_until
from wire import Wire, encode


def start_redis(node):
    node.redis.start()
    client = node.direct_client()

    def answers():
        try:
            return client.ping()
        except OSError:
            return False
        except Exception as error:  # pylint: disable=broad-except
            return "onnect" not in str(error)  # redis-py's own ConnectionError

    wait_until(answers, 10, f"{node.redis.name} answers")
    return client


def some_data(client, prefix, count=500):
    pipeline = client.pipeline(transaction=False)
    for i in range(count):
        pipeline.set(f"{prefix}:{i}", "v" * (i % 50))
        pipeline.rpush(f"{prefix}:list:{i % 10}", i)
        pipeline.set(f"{prefix}:expires:{i}", i, ex=1000 + i)
    pipeline.execute()


def wait_equal(cluster):
    cluster.wait_position()
    clients = [node.direct_client() for node in cluster.wait_members()]
    assert not dataset.differences(clients)
    assert dataset.snapshot(clients[0])


def report_of(cluster, node):
    chain = cluster.chain_status()
    nodes = chain["nodes"] if chain else []
    return next((n for n in nodes if n["report"]["node"] == node.id), None)


def set_overwrite(cluster, node):
    """overwrite = true in the TOML, as an operator would write it."""
    text = cluster.config.read_text(encoding="utf-8")
    line = f'id = "{node.id}"\n'
    assert text.count(line) == 1
    cluster.config.write_text(text.replace(line, line + "overwrite = true\n"), encoding="utf-8")


def test_existing_data_becomes_the_chains():
    """The Redis with data, the first in the TOML, becomes the head; its data reaches the others."""
    cluster = Cluster(nodes=3)
    first = cluster.nodes[0]
    some_data(start_redis(first), "old")
    before = dataset.snapshot(first.direct_client())
    with cluster:
        assert cluster.head() is first
        for node in cluster.nodes:
            assert node.redis_client().get("old:49") == b"v" * 49
        wait_equal(cluster)
        assert dataset.snapshot(first.direct_client()) == before
        assert cluster.tail().redis_client().rpush("old:list:0", "new") == 51
        wait_equal(cluster)


def test_a_stranger_is_refused_and_keeps_its_data():
    """Until its TOML says that it may be overwritten; then it is wiped and joins."""
    cluster = Cluster(nodes=3)
    first, stranger = cluster.nodes[0], cluster.nodes[2]
    some_data(start_redis(first), "chain")
    some_data(start_redis(stranger), "stranger")
    theirs = dataset.snapshot(stranger.direct_client())
    try:
        for process in cluster.processes():
            process.start()
        cluster.wait_whole(members=2, without=[stranger.id])
        notice = wait_until(lambda: (report_of(cluster, stranger) or {}).get("notice"), 20,
                            "the status tells why the node is refused")
        assert notice == ("refused: its database holds 1010 keys and was never part of this chain; "
                          "empty it or set overwrite = true")
        shown = cluster_status_text(cluster)
        assert notice in shown
        assert notice in stranger.proxy.log_tail(50)
        # It serves nothing of its own, neither reads nor writes change what it has.
        assert stranger.redis_client().get("chain:49") == b"v" * 49
        assert stranger.redis_client().get("stranger:1") is None
        stranger.redis_client().set("through the stranger", "1")
        assert cluster.head().redis_client().get("through the stranger") == b"1"
        assert dataset.snapshot(stranger.direct_client()) == theirs

        set_overwrite(cluster, stranger)
        stranger.proxy.restart()
        cluster.wait_whole()
        wait_equal(cluster)
        assert stranger.direct_client().exists("stranger:1") == 0
        assert stranger.direct_client().get("through the stranger") == b"1"
    except BaseException:
        print(cluster.log_tails())
        raise
    finally:
        cluster.stop()


def cluster_status_text(cluster):
    return subprocess.run([str(cluster.binaries / "catenactl"), "--config", str(cluster.config),
                           "status"], capture_output=True, text=True, timeout=10, check=True).stdout


# --- writers past the proxy ---


@pytest.fixture(name="patient", scope="module")
def patient_cluster():
    """Long leases: a process may be paused for seconds and stays a member."""
    with Cluster(nodes=3, settings={"coordinator.lease": "20s", "chain.write_timeout": "15s"}) as c:
        yield c


class Paused:
    def __init__(self, node):
        self._process = node.proxy

    def __enter__(self):
        self._process.pause()
        return self

    def __exit__(self, *_):
        self._process.resume()


def test_direct_writes_appear_everywhere(patient):
    cluster = patient
    direct = cluster.head().direct_client()
    for i in range(50):
        direct.set("direct", i)
        for node in cluster.wait_members():
            assert node.redis_client().get("direct") == str(i).encode()
    wait_equal(cluster)


COMMANDS = [("GET", "k"), ("MGET", "other", "k"), ("STRLEN", "k"), ("DBSIZE",), ("SCAN", "0"),
            ("KEYS", "*"),
            ("EXISTS", "k"), ("SETNX", "k", "mine"), ("EVAL", "return redis.call('get', 'k')", "0"),
            ("RANDOMKEY",), ("TTL", "k")]


@pytest.mark.parametrize("command", COMMANDS, ids=[c[0].lower() for c in COMMANDS])
def test_a_direct_write_is_not_shown_before_it_is_safe(patient, command):
    """The tail is paused: nothing commits. Whoever reads at the head's proxy waits."""
    cluster = patient
    head, direct = cluster.head(), cluster.head().direct_client()
    direct.set("clean", "c")
    cluster.wait_position()
    with Wire(head.clients) as reader, Wire(head.clients) as other, Paused(cluster.tail()):
        direct.set("k", f"for {command[0]}")
        reader.send(encode(*command))
        assert not reader.answered_within(0.5)
        assert other.call("GET", "clean") == b"$1\r\nc\r\n"  # at once, though nothing commits
    reply = None
    with Wire(head.clients) as late:
        late.call("PING")
        reply = late.call("GET", "k")
    assert reply == b"$%d\r\nfor %b\r\n" % (len(command[0]) + 4, command[0].encode())


def test_a_direct_write_that_is_lost_was_never_shown(own_networks):
    """The head dies with a direct write that nobody else received: no reader has seen it."""
    with Cluster(nodes=3, own_networks=own_networks) as cluster:
        head = cluster.head()
        cluster.tail().redis_client().set("k", "safe")
        shown = []

        def read():
            with Wire(head.clients) as reader:
                try:
                    shown.append(reader.call("GET", "k"))
                except OSError as error:
                    shown.append(repr(error).encode())

        cluster.cut(head, "peers")
        head.direct_client().set("k", "lost")
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.3)
        assert reader.is_alive(), shown
        head.proxy.kill()
        head.redis.kill()
        reader.join()
        assert b"lost" not in shown[0]
        cluster.wait_whole(members=2, without=[head.id])
        assert cluster.head().redis_client().get("k") == b"safe"
