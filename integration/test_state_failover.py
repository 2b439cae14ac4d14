"""A member dies while clients of a surviving proxy sit in each state; this is what each of them gets.

The head dies:
  MULTI open           the commands queued after it answer -CHAINDOWN, EXEC answers -EXECABORT: nothing was executed
  WATCH set            the next EXEC answers nil, as if a watched key had been touched
  EXEC sent            its answer, or -UNKNOWNOUTCOME: all of it was executed, or nothing
  blocked              -UNKNOWNOUTCOME: an element may have been taken for it and not delivered
  in a script          -UNKNOWNOUTCOME
  pipeline in flight   each command its answer, -UNKNOWNOUTCOME (sent, outcome lost) or -CHAINDOWN (not executed)
  subscribed, MONITOR  nothing: the connection to the local Redis stays; a message published in the moment may be lost
  tracking             nothing: invalidations come with the stream, after the failover as before
Another member dies: a pause, no error. A client of a proxy that dies is disconnected. No command is executed twice.
"""

import threading

import pytest

from cluster import Cluster
from kinds import on_rocksdb
from processes import wait_until
from wire import Wire, encode


@pytest.fixture(name="chain", scope="module")
def started_chain():
    with Cluster(nodes=3) as cluster:
        yield cluster


class Failover:
    """A member to kill, and the surviving node whose clients look on."""

    def __init__(self, cluster, victim_at):
        cluster.wait_whole(timeout=60)
        self.cluster = cluster
        self.victim = cluster.at(victim_at)
        self.head_dies = victim_at == "head"
        self.node = cluster.at("tail" if victim_at == "middle" else "middle")
        self.node.redis_client().flushall()
        self.opened = []

    def connect(self, resp=2):
        wire = Wire(self.node.clients, timeout=30)
        self.opened.append(wire)
        if resp == 3:
            wire.call("HELLO", "3")
        return wire

    def happen(self):
        self.victim.proxy.kill()
        self.cluster.wait_whole(members=2, timeout=30, without=[self.victim.id])

    def close(self):
        for wire in self.opened:
            wire.close()
        if not self.victim.proxy.running():
            self.victim.proxy.start()


@pytest.fixture(name="failover", params=["head", "middle", "tail"])
def failover_of(chain, request):
    failover = Failover(chain, request.param)
    yield failover
    failover.close()


def until_accepted(wire, *command):
    """The head may still be becoming one."""
    return wait_until(lambda: (reply := wire.call(*command)) and not reply.startswith(b"-CHAINDOWN") and reply, 20,
                      f"{command} is accepted")


def test_multi_open(failover):
    wire = failover.connect()
    wire.send(encode("MULTI") + encode("SET", "k", "queued"))
    assert wire.replies(2) == [b"+OK\r\n", b"+QUEUED\r\n"]
    failover.happen()
    later, end = wire.call("SET", "l", "queued"), wire.call("EXEC")
    if failover.head_dies:
        assert later.startswith(b"-CHAINDOWN ")
        assert end.startswith(b"-EXECABORT ")
        assert until_accepted(wire, "EXISTS", "k", "l") == b":0\r\n"
    else:
        assert (later, end) == (b"+QUEUED\r\n", b"*2\r\n+OK\r\n+OK\r\n")
    wire.send(encode("MULTI") + encode("SET", "k", "again") + encode("EXEC"))
    assert wire.replies(3)[2] == b"*1\r\n+OK\r\n"


def test_watch_set(failover):
    wire = failover.connect()
    assert wire.call("SET", "k", "1") == b"+OK\r\n"
    assert wire.call("WATCH", "k") == b"+OK\r\n"
    failover.happen()
    for expected in (b"*-1\r\n" if failover.head_dies else b"*1\r\n+OK\r\n", b"*1\r\n+OK\r\n"):
        until_accepted(wire, "MULTI")
        assert wire.call("SET", "k", "2") == b"+QUEUED\r\n"
        assert wire.call("EXEC") == expected


@pytest.mark.redis_only("other types than strings")
def test_blocked(failover):
    blocked, other = failover.connect(), failover.connect()
    blocked.send(encode("BLPOP", "queue", "0"))
    assert not blocked.answered_within(0.1)
    failover.happen()
    if failover.head_dies:
        assert blocked.reply().startswith(b"-UNKNOWNOUTCOME ")
        assert until_accepted(other, "RPUSH", "queue", "a") == b":1\r\n"
        assert other.call("LRANGE", "queue", "0", "-1") == b"*1\r\n$1\r\na\r\n"
        assert blocked.call("BLPOP", "queue", "0") == b"*2\r\n$5\r\nqueue\r\n$1\r\na\r\n"
    else:
        assert until_accepted(other, "RPUSH", "queue", "a") == b":1\r\n"
        assert blocked.reply() == b"*2\r\n$5\r\nqueue\r\n$1\r\na\r\n"
    assert other.call("EXISTS", "queue") == b":0\r\n"


@pytest.mark.redis_only("scripts")
def test_in_a_script(failover):
    """Also behind one of another client, on the connection that scripts share."""
    running, behind, other = failover.connect(), failover.connect(), failover.connect()
    assert behind.call("EVAL", "return 1", "0") == b":1\r\n"
    running.send(encode("EVAL", "local t = redis.call('time') local till = t[1] * 1000 + t[2] / 1000 "
                        "+ 1000 repeat t = redis.call('time') until t[1] * 1000 + t[2] / 1000 > till "
                        "return redis.call('incr', KEYS[1])", "1", "n"))
    behind.send(encode("EVAL", "return redis.call('incr', KEYS[1])", "1", "m"))
    assert not running.answered_within(0.1)
    failover.happen()
    first, second = running.reply(), behind.reply()
    unknown = second.startswith(b"-UNKNOWNOUTCOME ")
    assert unknown or second == b":1\r\n"
    if failover.head_dies:
        assert first.startswith(b"-UNKNOWNOUTCOME ")
    else:
        assert first == b":1\r\n" and not unknown
    value = until_accepted(other, "EVAL", "return redis.call('incr', KEYS[1])", "1", "m")
    assert value in ((b":1\r\n", b":2\r\n") if unknown else (b":2\r\n",))


@pytest.mark.parametrize("resp", [2, 3])
def test_subscribed(failover, resp):
    wire, other = failover.connect(resp), failover.connect()
    wire.call("SUBSCRIBE", "news")
    failover.happen()
    until_accepted(other, "PUBLISH", "news", "after")
    assert wire.reply().endswith(b"$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nafter\r\n")
    assert b"pong" in wire.call("PING").lower()


@pytest.mark.redis_only("CLIENT TRACKING")
def test_tracking(failover):
    wire, other = failover.connect(3), failover.connect()
    until_accepted(other, "SET", "k", "1")
    assert wire.call("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
    assert wire.call("GET", "k") == b"$1\r\n1\r\n"
    failover.happen()
    assert until_accepted(other, "SET", "k", "2") == b"+OK\r\n"
    assert wire.reply() == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
    assert until_accepted(wire, "GET", "k") == b"$1\r\n2\r\n"


def test_pipeline_in_flight(failover):
    """Every INCR that was answered counts once, every unknown one at most once, no other at all."""
    # As many as are done well within write_timeout.
    wire, count = failover.connect(), 20_000 if on_rocksdb() else 60_000
    command = encode("INCR", "n")
    sender = threading.Thread(target=lambda: wire.send(command * count))
    sender.start()
    replies = wire.replies(2000)
    happening = threading.Thread(target=failover.happen)
    happening.start()
    replies += wire.replies(count - 2000)
    sender.join()
    happening.join()
    answers = [int(r[1:]) for r in replies if r.startswith(b":")]
    unknown = sum(r.startswith(b"-UNKNOWNOUTCOME ") for r in replies)
    down = sum(r.startswith(b"-CHAINDOWN ") for r in replies)
    assert len(answers) + unknown + down == count, [r for r in replies if r[:2] not in (b"-U", b"-C")][-3:]
    assert answers == sorted(set(answers))
    value = int(until_accepted(wire, "GET", "n").split(b"\r\n")[1])
    assert len(answers) <= value <= len(answers) + unknown
    if not failover.head_dies:
        assert answers == list(range(1, count + 1))


def test_transactions_in_flight(failover):
    """Each EXEC is executed whole or not at all, and what it answered holds."""
    wire, count = failover.connect(), 3000
    one = encode("MULTI") + encode("INCR", "a") + encode("INCR", "b") + encode("EXEC")
    sender = threading.Thread(target=lambda: wire.send(one * count))
    sender.start()
    replies = wire.replies(400)
    happening = threading.Thread(target=failover.happen)
    happening.start()
    replies += wire.replies(4 * count - 400)
    sender.join()
    happening.join()
    ends = replies[3::4]
    done = sum(r.startswith(b"*2") for r in ends)
    unknown = sum(r.startswith(b"-UNKNOWNOUTCOME ") for r in ends)
    aborted = sum(r.startswith((b"-EXECABORT ", b"-CHAINDOWN ", b"-ERR EXEC without MULTI")) for r in ends)
    assert done + unknown + aborted == count, set(r[:40] for r in ends)
    a, b = until_accepted(wire, "MGET", "a", "b").split(b"\r\n")[2:5:2]
    assert a == b
    assert done <= int(a) <= done + unknown
    if not failover.head_dies:
        assert done == count


@pytest.mark.redis_only("there is no process of its own")
def test_the_heads_redis_dies(chain):
    """The proxy stays: its subscribers must notice, its transactions abort."""
    chain.wait_whole(timeout=60)
    head = chain.head()
    with Wire(head.clients) as subscriber, Wire(head.clients) as multi, Wire(head.clients) as blocked:
        subscriber.call("SUBSCRIBE", "news")
        multi.call("MULTI")
        blocked.send(encode("BLPOP", "queue", "0"))
        assert not blocked.answered_within(0.1)
        head.redis.kill()
        assert subscriber.rest() == b""
        assert blocked.reply().startswith(b"-UNKNOWNOUTCOME ")
        assert multi.call("EXEC").startswith(b"-EXECABORT ")
    head.redis.start()
    chain.wait_whole(timeout=60)
