"""Clients in a state of their own at any proxy: transactions, blocked, subscribed, tracked; scripts that run long."""

import re
import threading
import time

import pytest

import dual
from cluster import Cluster
from kinds import runs_here
from processes import wait_until
from wire import Wire, encode

POSITIONS = ("head", "middle", "tail")


@pytest.fixture(name="pair", scope="module")
def started_pair():
    with Cluster(nodes=3) as cluster, dual.Dual(cluster) as pair:
        yield pair


@pytest.fixture(name="both", params=POSITIONS)
def both_sides(pair, request):
    """Opens connections in pairs: to the plain Redis, and to the proxy at a position."""
    pair.clear()
    opened = []

    def connect(resp=2):
        sides = Wire(f"127.0.0.1:{pair.port}"), Wire(pair.cluster.at(request.param).clients)
        opened.extend(sides)
        if resp == 3:
            for side in sides:
                side.call("HELLO", "3")
        return sides

    yield connect
    for wire in opened:
        wire.close()


def same(sides, *command, replies=1):
    """Sends to both; the replies are equal. Returns them."""
    for side in sides:
        side.send(encode(*command))
    plain, chain = ([side.reply() for _ in range(replies)] for side in sides)
    assert chain == plain, command
    return chain


def talk(sides, text):
    for line in text.strip().splitlines():
        same(sides, *line.split())


TRANSACTIONS = [
    "SET k 1|MULTI|MULTI|INCR k|EXEC|GET k",
    "MULTI|WATCH k|SET k 2|EXEC|GET k",
    "MULTI|NOSUCH|SET k 3|EXEC|GET k",
    "MULTI|SET k|EXEC|GET k",
    "MULTI|SET k x|INCR k|LPUSH k y|EXEC|GET k",
    "MULTI|SELECT 3|SET k three|EXEC|GET k|SELECT 0|GET k",
    "MULTI|SELECT 99|SET k zero|EXEC|GET k",
    "MULTI|BLPOP l 0|BLMOVE l m LEFT LEFT 0|XREAD BLOCK 0 STREAMS s $|EXEC",
    "MULTI|DISCARD|EXEC|DISCARD",
    "WATCH k|SET k mine|MULTI|GET k|EXEC",
    "WATCH k|UNWATCH|SET k mine|MULTI|GET k|EXEC",
    "EXEC x|DISCARD x|MULTI x|WATCH|UNWATCH x",
    "MULTI|EXEC x|EXEC",
    "MULTI|DISCARD x|EXEC",
    "MULTI|EVAL return{1,2} 0|FLUSHALL|CLIENT GETNAME|CLIENT SETNAME me|CLIENT GETNAME|PING|ECHO a|ACL WHOAMI|EXEC",
    "MULTI|UNWATCH|CLIENT NOSUCH|EXEC",
    "MULTI|CLIENT SETNAME|EXEC",
    "MULTI|SET a 1|RESET|EXEC|PING",
    "SELECT 2|MULTI|SET k two|RESET|SELECT 2|GET k",
    "MULTI|MONITOR|EXEC",
]


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("script", [s for s in TRANSACTIONS if runs_here(*re.split("[ |]", s))])
def test_transactions(both, script, resp):
    sides = both(resp)
    for line in script.split("|"):
        same(sides, *line.split())
    sides = both(resp)
    for side in sides:  # once more, all at once
        side.send(b"".join(encode(*line.split()) for line in ("FLUSHALL|" + script).split("|")))
    count = script.count("|") + 2
    assert sides[1].replies(count) == sides[0].replies(count)


def test_refused_commands_abort_a_transaction(both):
    _, chain = both()
    assert chain.call("MULTI") == b"+OK\r\n"
    assert chain.call("SHUTDOWN").startswith(b"-ERR SHUTDOWN is not allowed through Catena")
    assert chain.call("CONFIG", "SET", "replica-read-only", "no").startswith(b"-ERR CONFIG SET")
    assert chain.call("SET", "k", "v") == b"+QUEUED\r\n"
    assert chain.call("EXEC").startswith(b"-EXECABORT")
    assert chain.call("EXISTS", "k") == b":0\r\n"


def test_watch_sees_writes_of_others(pair, both):
    """Through another proxy, and straight at the head's Redis."""
    _, chain = both()
    head = pair.cluster.head()
    for writer in (pair.cluster.tail().redis_client(), head.direct_client()):
        assert chain.call("WATCH", "k") == b"+OK\r\n"
        writer.set("k", "other")
        assert chain.call("MULTI") == b"+OK\r\n"
        assert chain.call("SET", "k", "mine") == b"+QUEUED\r\n"
        assert chain.call("EXEC") == b"*-1\r\n"
    assert chain.call("GET", "k") == b"$5\r\nother\r\n"


CLIENT_COMMANDS = """
CLIENT
CLIENT NOSUCH
CLIENT HELP
CLIENT SETNAME
CLIENT SETNAME ab
CLIENT GETNAME
CLIENT GETNAME x
CLIENT KILL 1.2.3.4:5
CLIENT KILL ID 999999
CLIENT KILL ID abc
CLIENT KILL ID
CLIENT KILL TYPE foo
CLIENT KILL TYPE replica
CLIENT KILL USER nouser
CLIENT KILL SKIPME foo
CLIENT KILL FOO BAR
CLIENT KILL ADDR 1.1.1.1:1 LADDR
CLIENT LIST TYPE foo
CLIENT LIST TYPE pubsub
CLIENT LIST TYPE
CLIENT LIST ID 999999
CLIENT LIST ID abc
CLIENT LIST FOO
CLIENT PAUSE x
CLIENT PAUSE -1
CLIENT PAUSE 1 FOO
CLIENT PAUSE 1 ALL x
CLIENT PAUSE 1
CLIENT UNPAUSE
CLIENT UNPAUSE x
CLIENT UNBLOCK
CLIENT UNBLOCK 999999
CLIENT UNBLOCK abc
CLIENT UNBLOCK 999999 FOO
CLIENT UNBLOCK 999999 ERROR
CLIENT NO-EVICT on
CLIENT NO-EVICT x
CLIENT REPLY x
CLIENT REPLY ON
CLIENT SETINFO LIB-NAME x
CLIENT CACHING YES
CLIENT CACHING x
CLIENT GETREDIR
CLIENT TRACKINGINFO
CLIENT TRACKING x
CLIENT TRACKING ON OPTIN OPTOUT
CLIENT TRACKING ON PREFIX a
CLIENT TRACKING ON REDIRECT 999999
CLIENT TRACKING OFF
ACL WHOAMI
ASKING
SELECT 01
SELECT +1
SELECT x
HELLO 4
HELLO 3 SETNAME
HELLO 3 SETNAME a_b
"""


def test_client_commands_word_for_word(both):
    sides = both()
    lines = CLIENT_COMMANDS.strip().splitlines()
    for line in lines[:-1]:
        if runs_here(*line.split()):
            same(sides, *line.split())


@pytest.mark.redis_only("other databases")
def test_client_list_tells_states(both):
    _, one = both()
    _, other = both()
    other.call("CLIENT", "SETNAME", "watched")
    number = int(other.call("CLIENT", "ID")[1:])

    def line():
        return one.call("CLIENT", "LIST", "ID", str(number)).decode()

    other.call("SELECT", "5")
    assert " name=watched " in line() and " db=5 " in line() and " flags=N " in line()
    other.call("MULTI")
    other.call("PING")
    assert " flags=x " in line() and " multi=1 " in line()
    other.call("RESET")
    other.call("SUBSCRIBE", "a")
    assert " flags=P " in line() and " sub=1 " in line() and " cmd=subscribe" in line()
    assert line().count("id=") == one.call("CLIENT", "LIST", "TYPE", "PUBSUB").count(b"id=")


def test_client_kill(both):
    _, one = both()
    _, other = both()
    number = other.call("CLIENT", "ID")[1:].strip()
    assert one.call("CLIENT", "KILL", "ID", number) == b":1\r\n"
    assert other.rest() == b""
    assert one.call("CLIENT", "KILL", "ID", number) == b":0\r\n"
    mine = one.call("CLIENT", "ID")[1:].strip()
    assert one.call("CLIENT", "KILL", "ID", mine) == b":0\r\n"
    assert one.call("CLIENT", "KILL", "ID", mine, "SKIPME", "no") == b":1\r\n"
    assert one.rest() == b""


def test_client_pause(both):
    _, one = both()
    _, other = both()
    assert one.call("CLIENT", "PAUSE", "400", "WRITE") == b"+OK\r\n"
    assert other.call("GET", "k") == b"$-1\r\n"
    started = time.monotonic()
    assert other.call("SET", "k", "v") == b"+OK\r\n"
    assert time.monotonic() - started > 0.3
    assert one.call("CLIENT", "PAUSE", "60000", "WRITE") == b"+OK\r\n"
    other.send(encode("SET", "k", "w"))
    assert not other.answered_within(0.2)
    assert one.call("CLIENT", "UNPAUSE") == b"+OK\r\n"
    assert other.reply() == b"+OK\r\n"


@pytest.mark.redis_only("other types than strings")
@pytest.mark.parametrize("command", ["BLPOP l 0", "BLMOVE l m LEFT LEFT 0", "BZPOPMIN z 0", "XREAD BLOCK 0 STREAMS s $",
                                     "BLMPOP 0 1 l LEFT", "BRPOPLPUSH l m 0"])
def test_client_unblock(both, command):
    others, blocked = both(), both()
    for reason in ([], ["ERROR"]):
        numbers = [side.call("CLIENT", "ID")[1:].strip() for side in blocked]
        for side in blocked:
            side.send(encode(*command.split()))
        for side, number in zip(others, numbers):
            wait_until(lambda side=side, number=number:
                       side.call("CLIENT", "UNBLOCK", number, *reason) == b":1\r\n", 10, "it is blocked")
        plain, chain = (side.reply() for side in blocked)
        assert chain == plain
        same(blocked, "PING")


@pytest.mark.redis_only("other types than strings")
def test_blocked_clients_are_woken_by_any_proxy(pair, both):
    _, blocked = both()
    for position in POSITIONS:
        blocked.send(encode("BLPOP", "queue", "0"))
        assert not blocked.answered_within(0.05)
        pair.cluster.at(position).redis_client().rpush("queue", position)
        assert blocked.reply() == b"*2\r\n$5\r\nqueue\r\n$%d\r\n%b\r\n" % (len(position), position.encode())


@pytest.mark.redis_only("other types than strings")
def test_a_client_that_is_gone_takes_nothing(pair, both):
    _, blocked = both()
    blocked.send(encode("BLPOP", "queue", "0"))
    head = pair.cluster.head().direct_client()
    wait_until(lambda: head.info("clients")["blocked_clients"] == 1, 10, "it is blocked at the head")
    blocked.close()
    wait_until(lambda: head.info("clients")["blocked_clients"] == 0, 10, "it is forgotten at the head")
    client = pair.cluster.tail().redis_client()
    client.rpush("queue", "kept")
    assert client.lrange("queue", 0, -1) == [b"kept"]


@pytest.mark.redis_only("scripts")
def test_script_kill(pair, both):
    _, runner = both()
    _, killer = both()
    assert killer.call("SCRIPT", "KILL").startswith(b"-NOTBUSY")
    assert killer.call("FUNCTION", "KILL").startswith(b"-NOTBUSY")
    pair.cluster.head().direct_client().config_set("busy-reply-threshold", 50)
    runner.send(encode("EVAL", "while true do end", "0"))
    wait_until(lambda: killer.call("SCRIPT", "KILL") == b"+OK\r\n", 10, "a script to kill")
    assert b"Script killed by user" in runner.reply()
    assert runner.call("SET", "k", "v") == b"+OK\r\n"


# --- subscriptions ---

SUBSCRIPTIONS = [
    "SUBSCRIBE a|PING|PING x|SUBSCRIBE b|UNSUBSCRIBE a|UNSUBSCRIBE b|GET k",
    "PSUBSCRIBE a*|PUNSUBSCRIBE nosuch|PUNSUBSCRIBE a*|PING",
    "SSUBSCRIBE s|SUNSUBSCRIBE s|SUNSUBSCRIBE|PING",
    "UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|UNSUBSCRIBE a|PING",
    "SUBSCRIBE|PSUBSCRIBE|SUBSCRIBE a|SUBSCRIBE a|UNSUBSCRIBE",
    "SUBSCRIBE a|GET k|SET k v|MULTI|NOSUCH|CLIENT ID|SELECT 1|HELLO 3|UNSUBSCRIBE|GET k",
    "SUBSCRIBE a|RESET|GET k",
    "SUBSCRIBE a|QUIT",
]


@pytest.mark.parametrize("script", [s for s in SUBSCRIPTIONS if runs_here(*re.split("[ |]", s))])
def test_subscriptions_in_resp2(both, script):
    sides = both()
    for line in script.split("|"):
        same(sides, *line.split())


@pytest.mark.parametrize("script", [s for s in SUBSCRIPTIONS if "CLIENT ID" not in s and
                                    runs_here(*re.split("[ |]", s))])
def test_subscriptions_in_resp3(both, script):
    sides = both(3)
    for line in script.split("|"):
        same(sides, *line.split())


@pytest.mark.parametrize("resp", [2, 3])
def test_messages(pair, both, resp):
    sides = both(resp)
    same(sides, "SUBSCRIBE", "news", "other", replies=2)
    same(sides, "PSUBSCRIBE", "n*")
    shards = runs_here("SSUBSCRIBE")
    if shards:
        same(sides, "SSUBSCRIBE", "shard")
    for position in POSITIONS:
        chain = pair.cluster.at(position).redis_client()
        for client in (pair.client, chain):
            client.publish("news", "from " + position)
            if shards:
                client.execute_command("SPUBLISH", "shard", "to shard")
        plain, proxied = (side.replies(2 + shards) for side in sides)
        assert proxied == plain
    if resp == 3:
        same(sides, "SET", "k", "while subscribed")
    for channel in ("news", "other"):  # all at once would be in the order of a hash table
        same(sides, "UNSUBSCRIBE", channel)
    same(sides, "PUNSUBSCRIBE")
    if shards:
        same(sides, "SUNSUBSCRIBE")
    same(sides, "PING")


@pytest.mark.redis_only("MONITOR")
def test_monitor(pair, both):
    _, chain = both()
    assert chain.call("MONITOR") == b"+OK\r\n"
    pair.cluster.head().redis_client().set("seen", "1")
    while b'"seen"' not in chain.reply():
        pass
    assert chain.call("RESET") is not None


# --- tracking ---


@pytest.mark.redis_only("CLIENT TRACKING")
def test_tracking(pair, both):
    """A client's cache: told of changes by anybody, of keys that it has read since."""
    sides = both(3)
    same(sides, "SET", "k", "1")
    same(sides, "CLIENT", "TRACKING", "ON")
    same(sides, "CLIENT", "TRACKINGINFO")
    same(sides, "CLIENT", "GETREDIR")
    for position in POSITIONS:
        same(sides, "GET", "k")
        same(sides, "MGET", "k", "other")
        for client in (pair.client, pair.cluster.at(position).redis_client()):
            client.set("k", position)
        plain, chain = (side.reply() for side in sides)
        assert chain == plain == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
        for client in (pair.client, pair.cluster.at(position).redis_client()):
            client.set("k", "unseen")
        same(sides, "PING")
    same(sides, "SELECT", "2")
    same(sides, "GET", "k")
    same(sides, "CLIENT", "TRACKING", "OFF")
    same(sides, "CLIENT", "TRACKINGINFO")


@pytest.mark.redis_only("CLIENT TRACKING")
@pytest.mark.parametrize("options", ["BCAST", "BCAST PREFIX k PREFIX l", "OPTIN", "OPTOUT"])
def test_tracking_modes(pair, both, options):
    sides = both(3)
    same(sides, "CLIENT", "TRACKING", "ON", *options.split())
    same(sides, "CLIENT", "TRACKINGINFO")
    if options == "OPTIN":
        same(sides, "CLIENT", "CACHING", "YES")
    same(sides, "GET", "k")
    same(sides, "CLIENT", "TRACKING", "ON", "NOSUCH")
    for client in (pair.client, pair.cluster.at("middle").redis_client()):
        client.set("k", "changed")
    plain, chain = (side.reply() for side in sides)
    assert chain == plain


@pytest.mark.redis_only("CLIENT TRACKING")
def test_tracking_redirected(pair, both):
    readers, listeners = both(), both()
    for reader, listener in zip(readers, listeners):
        number = listener.call("CLIENT", "ID")[1:].strip()
        listener.call("SUBSCRIBE", "__redis__:invalidate")
        assert reader.call("CLIENT", "TRACKING", "ON", "REDIRECT", number) == b"+OK\r\n"
        assert reader.call("CLIENT", "GETREDIR") == b":" + number + b"\r\n"
        assert b":" + number + b"\r\n" in reader.call("CLIENT", "TRACKINGINFO")
        reader.call("GET", "k")
    for client in (pair.client, pair.cluster.at("tail").redis_client()):
        client.set("k", "changed")
    plain, chain = (side.reply() for side in listeners)
    assert chain == plain
    assert b"__redis__:invalidate" in chain


# --- limits ---


def test_a_pipeline_of_100000(both):
    sides = both()
    data = b"".join(encode(*(("INCR", "n") if i % 3 else ("GET", "n"))) for i in range(100_000))
    for side in sides:
        thread = threading.Thread(target=side.send, args=(data,))
        thread.start()
        side.last = [side.reply() for _ in range(100_000)]
        thread.join()
    assert sides[0].last == sides[1].last
