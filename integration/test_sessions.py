"""A connection's own commands and the order of replies, byte for byte those of a plain Redis."""

import random
import re
import time

import pytest

from cluster import Cluster
from kinds import runs_here
from processes import Process, wait_until
from wire import Wire, encode

USERS = [("default", "open sesame"), ("alice", "wonder land")]


class PlainRedis:
    """A stock server next to a cluster, in a port that the cluster does not use."""

    def __init__(self, cluster, *arguments, place=10):
        port = cluster.base_port + place
        self.address = f"127.0.0.1:{port}"
        self._process = Process("plain-redis", [
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
            str(cluster.directory), *arguments], cluster.directory / "logs" / f"plain-{place}.log")

    def __enter__(self):
        self._process.start()

        def accepts():
            try:
                Wire(self.address).close()
                return True
            except OSError:
                return False

        wait_until(accepts, 10, "the plain Redis listens")
        return self

    def __exit__(self, *_):
        self._process.stop()


@pytest.fixture(name="plain", scope="module")
def plain_redis(cluster):
    with PlainRedis(cluster) as started:
        yield started


@pytest.fixture(name="guarded", scope="module")
def guarded_cluster():
    """A chain with users, and a plain Redis with the same."""
    with Cluster(nodes=2, users=USERS) as cluster:
        acl = [word for name, password in USERS for word in
               ("--user", name, "on", ">" + password.replace(" ", ""), "~*", "&*", "+@all")]
        with PlainRedis(cluster, *acl) as plain:
            yield cluster, plain


# --- order ---


def random_command(rng):
    key = f"k{rng.randrange(12)}"
    other = f"k{rng.randrange(12)}"
    n = rng.randrange(100)
    return rng.choice([command for command in [
        ("SET", key, n), ("GET", key), ("GET", other), ("INCR", key), ("APPEND", key, n),
        ("GETSET", key, n),
        ("STRLEN", key), ("DEL", key), ("EXISTS", key, other), ("MGET", key, other),
        ("MSET", key, n, other, n),
        ("SETNX", key, n), ("TYPE", key), ("LPUSH", f"l{key}", n), ("RPOP", f"l{key}"),
        ("LRANGE", f"l{key}", 0, -1),
        ("HSET", f"h{key}", f"f{n % 5}", n), ("HGET", f"h{key}", f"f{n % 5}"),
        ("HGETALL", f"h{key}"),
        ("ZADD", f"z{key}", n, f"m{n % 7}"), ("ZRANGE", f"z{key}", 0, -1, "WITHSCORES"),
        ("SADD", f"s{key}", n),
        ("SCARD", f"s{key}"), ("SISMEMBER", f"s{key}", n), ("RENAME", key, other), ("DBSIZE",),
        ("LPUSH", key, n),
        ("EVAL", "return redis.call('incrby', KEYS[1], ARGV[1])", 1, f"n{n % 3}", n),
        ("EVAL_RO", "return redis.call('get', KEYS[1])", 1, f"n{n % 3}"), ("SELECT", n % 3),
        ("PING",),
        ("ECHO", n), ("CLIENT", "SETNAME", f"name{n}"), ("CLIENT", "GETNAME"), ("NOSUCH", key, n),
        ("GET",), ("SET", key), ("FLUSHDB",) if n < 10 else ("GET", key),
        ("HELLO", 2 + n % 2), ("EXPIRE", key, 1000), ("PERSIST", key), ("OBJECT", "NOSUCH", key),
    ] if runs_here(command[0])])


def comparable(reply):
    """HELLO names the connection."""
    return re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:#", reply) if b"$5\r\nproto" in reply else reply


def replies_of(address, rng, commands):
    """Sends everything without waiting, in pieces of any size."""
    with Wire(address, timeout=60) as wire:
        wire.call("FLUSHALL")
        data = b"".join(encode(*command) for command in commands)
        at = 0
        while at < len(data):
            size = rng.choice([1, 7, 100, 1000, 10000])
            wire.send(data[at:at + size])
            at += size
        return [comparable(reply) for reply in wire.replies(len(commands))]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("position", ["head", "middle", "tail"])
def test_pipelines_answer_as_a_plain_redis(cluster, plain, position, seed):
    rng = random.Random(f"{position} {seed}")
    commands = [random_command(rng) for _ in range(1500)]
    wanted = replies_of(plain.address, rng, commands)
    got = replies_of(cluster.at(position).clients, rng, commands)
    for number, (command, right, is_) in enumerate(zip(commands, wanted, got)):
        assert is_ == right, f"seed {seed}, command {number}: {command}"


@pytest.mark.parametrize("position", ["middle", "tail"])
def test_many_pipelines_at_once(cluster, position):
    """Each connection counts for itself, writing and reading in one pipeline."""
    wires = [Wire(cluster.at(position).clients, timeout=60) for _ in range(20)]
    for number, wire in enumerate(wires):
        own, next_one = f"{position}:{number}", f"{position}:{(number + 1) % 20}"
        wire.send(b"".join(encode("SET", own, i) + encode("GET", own) + encode("GET", next_one)
                           for i in range(300)))
    for number, wire in enumerate(wires):
        newest = -1
        for i in range(300):
            assert wire.reply() == b"+OK\r\n"
            assert wire.reply().split(b"\r\n")[1] == b"%d" % i
            neighbour = wire.reply()
            seen = -1 if neighbour == b"$-1\r\n" else int(neighbour.split(b"\r\n")[1])
            assert seen >= newest, f"connection {number} saw its neighbour go back"
            newest = seen
        wire.close()


# --- commands of a connection ---


CONVERSATIONS = {
    "ping": [("PING",), ("PING", "hello"), ("PING", "a", "b"), ("ping",)],
    "echo": [("ECHO", "x"), ("ECHO",), ("ECHO", "a", "b")],
    "select": [("SELECT", 5), ("SET", "in5", "1"), ("SELECT", 0), ("GET", "in5"), ("SELECT", 16),
               ("SELECT", -1),
               ("SELECT", "x"), ("SELECT",), ("SELECT", 5), ("GET", "in5"), ("FLUSHDB",)],
    "hello": [("HELLO",), ("HELLO", 3), ("HGETALL", "none"), ("HELLO", 2), ("HELLO", 4),
              ("HELLO", "x"),
              ("HELLO", 3, "SETNAME", "me"), ("CLIENT", "GETNAME"), ("HELLO", 3, "SETNAME", "a b"),
              ("HELLO", 3, "NONSENSE"), ("HELLO", 3, "AUTH", "default", "x"),
              ("HELLO", 3, "AUTH", "nobody", "x"),
              ("HELLO", 3, "AUTH", "default")],
    "client": [("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "me"), ("CLIENT", "GETNAME"),
               ("CLIENT", "SETNAME", ""),
               ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "a b"), ("CLIENT", "SETNAME"),
               ("CLIENT", "NOSUCH"),
               ("CLIENT",), ("CLIENT", "NO-EVICT", "ON"), ("CLIENT", "NO-EVICT", "x"),
               ("CLIENT", "GETNAME", "x"),
               ("CLIENT", "ID", "x"), ("CLIENT", "REPLY", "x"), ("CLIENT", "REPLY")],
    "reset": [("CLIENT", "SETNAME", "me"), ("SELECT", 3), ("HELLO", 3), ("RESET",),
              ("CLIENT", "GETNAME"),
              ("RESET", "x"), ("SET", "in0", "1"), ("DEL", "in0")],
    "wait": [("WAIT", "x", 0), ("WAIT", 0, "x"), ("WAIT", 0, -1), ("WAIT",)],
    "unknown": [("NOSUCH",), ("NOSUCH", "a", "b"), ("NOSUCH", "x" * 300, "y" * 300),
                ("nosuch\r\nwith line", "x"),
                ("", "x"), ("GET", "a", "b"), ("GET",), ("OBJECT",), ("OBJECT", "NOSUCH"),
                ("XGROUP", "NOSUCH", "a"),
                ("CONFIG",), ("COMMAND", "NOSUCH")],
    "command": [("COMMAND", "COUNT"), ("COMMAND", "INFO", "get", "nosuch", "client|setname"),
                ("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"),
                ("COMMAND", "LIST", "FILTERBY", "PATTERN", "xad*"),
                ("COMMAND", "DOCS", "get")],
    "auth": [("AUTH", "x"), ("AUTH", "default", "x"), ("AUTH", "nobody", "x"), ("AUTH",),
             ("AUTH", "a", "b", "c")],
}


@pytest.mark.parametrize("position", ["head", "tail"])
@pytest.mark.parametrize("topic", CONVERSATIONS)
def test_conversations(cluster, plain, position, topic):
    with Wire(cluster.at(position).clients) as wire, Wire(plain.address) as right:
        wire.call("FLUSHALL"), right.call("FLUSHALL")
        for command in filter(lambda words: runs_here(*words), CONVERSATIONS[topic]):
            assert comparable(wire.call(*command)) == comparable(right.call(*command)), command


@pytest.mark.parametrize("position", ["head", "tail"])
def test_quit_answers_what_is_owed_and_closes(cluster, position):
    with Wire(cluster.at(position).clients) as wire:
        wire.send(encode("SET", "k", "v") + encode("GET", "k") + encode("QUIT")
                  + encode("SET", "k", "never"))
        assert wire.rest() == b"+OK\r\n$1\r\nv\r\n+OK\r\n"
    assert cluster.head().redis_client().get("k") == b"v"


@pytest.mark.parametrize("position", ["head", "tail"])
def test_replies_that_are_not_wanted(cluster, position):
    with Wire(cluster.at(position).clients) as wire:
        for command in [("CLIENT", "REPLY", "OFF"), ("SET", "k", "1"), ("GET", "k"), ("NOSUCH",),
                        ("CLIENT", "REPLY", "ON"), ("CLIENT", "REPLY", "SKIP"), ("SET", "k", "2"),
                        ("GET", "k")]:
            wire.send(encode(*command))
        assert wire.replies(2) == [b"+OK\r\n", b"$1\r\n2\r\n"]
        assert wire.call("PING") == b"+PONG\r\n"


def test_inline_commands(cluster, plain):
    with Wire(cluster.tail().clients) as wire, Wire(plain.address) as right:
        for line in [b"PING\r\n", b"SET inline 'a b'\n", b"GET inline\r\n",
                     b"\r\n\r\nECHO \"x\\x41\\n\"\r\n",
                     b"DEL inline\r\n"]:
            wire.send(line)
            right.send(line)
            assert wire.reply() == right.reply(), line
        wire.send(b"SET 'unbalanced\r\n")
        right.send(b"SET 'unbalanced\r\n")
        error = b"-ERR Protocol error: unbalanced quotes in request\r\n"
        assert wire.rest() == right.rest() == error


@pytest.mark.parametrize("position", ["head", "middle", "tail"])
def test_info_tells_of_the_chain(cluster, position):
    node = cluster.at(position)
    names = {"head": "head", "middle": "middle", "tail": "tail"}
    with Wire(node.clients) as wire:
        text = wire.call("INFO").decode()
        assert "redis_version:7" in text and "# Catena\r\n" in text
        assert f"catena_node:{node.id}\r\n" in text
        assert f"catena_role:{names[position]}\r\n" in text
        assert "catena_members:3\r\n" in text
        assert "# Catena\r\n" in wire.call("INFO", "catena").decode()
        assert "# Catena\r\n" not in wire.call("INFO", "server").decode()
        wire.call("HELLO", 3)
        assert wire.call("INFO").startswith(b"=")


def test_wait_counts_the_other_members(cluster):
    with Wire(cluster.middle().clients) as wire:
        wire.send(encode("SET", "k", "v") + encode("WAIT", 2, 0))
        assert wire.replies(2) == [b"+OK\r\n", b":2\r\n"]
        begun = time.monotonic()
        # There are no three: it may wait the time out, as Redis does.
        assert wire.call("WAIT", 3, 300) == b":2\r\n"
        assert time.monotonic() - begun < 5


def test_client_list_and_info(cluster):
    with Wire(cluster.tail().clients) as wire:
        wire.call("CLIENT", "SETNAME", "finder")
        number = int(wire.call("CLIENT", "ID")[1:])
        info = wire.call("CLIENT", "INFO").decode()
        assert f"id={number} " in info and " name=finder " in info and " cmd=client|info " in info
        listed = wire.call("CLIENT", "LIST").decode()
        assert f"id={number} " in listed


# --- users ---


LOGINS = [
    [("PING",), ("GET", "k"), ("SET", "k"), ("HELLO",), ("HELLO", 3), ("CLIENT", "ID"), ("QUIT",)],
    [("RESET",), ("GET", "k")],
    [("AUTH", "wrong"), ("GET", "k")],
    [("AUTH", "default", "wrong"), ("AUTH", "nobody", "opensesame"),
     ("AUTH", "alice", "opensesame"), ("GET", "k")],
    [("AUTH",), ("AUTH", "a", "b", "c"), ("GET", "k")],
    [("AUTH", "opensesame"), ("GET", "k"), ("AUTH", "wrong"), ("GET", "k")],
    [("AUTH", "alice", "wonderland"), ("GET", "k"), ("RESET",), ("GET", "k")],
    [("HELLO", 3, "AUTH", "alice", "wrong"), ("GET", "k")],
    [("HELLO", 3, "AUTH", "alice", "wonderland", "SETNAME", "me"), ("CLIENT", "GETNAME"),
     ("GET", "k")],
    [("HELLO", 3, "AUTH", "alice"), ("GET", "k")],
]


@pytest.mark.parametrize("commands", LOGINS, ids=range(len(LOGINS)))
def test_logins(guarded, commands):
    cluster, plain = guarded
    # The TOML's passwords have blanks, which those of an ACL rule cannot; each gets its own.
    blanks = {"opensesame": "open sesame", "wonderland": "wonder land"}
    for node in cluster.nodes:
        with Wire(node.clients) as wire, Wire(plain.address) as right:
            for command in commands:
                given = [blanks.get(word, word) for word in command]
                assert comparable(wire.call(*given)) == comparable(right.call(*command)), command


def test_nothing_is_answered_before_a_login(guarded):
    """Also not in a pipeline that begins with a wrong one."""
    cluster, _ = guarded
    with Wire(cluster.tail().clients) as wire:
        wire.send(encode("AUTH", "wrong") + encode("SET", "k", "v") + encode("INFO")
                  + encode("CATENA", "CONSISTENCY"))
        assert wire.reply().startswith(b"-WRONGPASS ")
        assert wire.replies(3) == [b"-NOAUTH Authentication required.\r\n"] * 3
        assert wire.call("AUTH", "open sesame") == b"+OK\r\n"
        assert wire.call("EXISTS", "k") == b":0\r\n"
