"""Users of the TOML with limited rights: at any proxy as at a plain Redis with the same ACL."""

import hashlib

import pytest

import unsupported
from cluster import Cluster
from test_sessions import PlainRedis, comparable
from wire import Wire, encode

POSITIONS = ("head", "middle", "tail")
PASSWORD = "open-sesame"
LIMITED = ["-@admin", "-@scripting", "-flushall", "-flushdb", "-swapdb"]
# name: (rights in the TOML, the same as a Redis ACL)
USERS = {
    "default": ({}, ["~*", "&*", "+@all"]),
    "reader": ({"access": "read-only"},
               ["~*", "&*", "+@all", "-@write", "-@admin", "-@scripting", "-publish", "-spublish"]),
    "tenant": ({"keys": ["app:*", "shared"], "channels": ["news*", "n[ai]l"]},
               ["~app:*", "~shared", "&news*", "&n[ai]l", "+@all", *LIMITED]),
    "viewer": ({"access": "read-only", "keys": ["app:*"]},
               ["~app:*", "&*", "+@all", "-@write", "-@admin", "-@scripting", "-publish",
                "-spublish"]),
    "listener": ({"keys": [], "channels": ["news*"]}, ["&news*", "+@all", *LIMITED]),
}


@pytest.fixture(name="guarded", scope="module")
def guarded_cluster():
    """A chain whose users have rights, and a plain Redis with the same."""
    users = [(name, PASSWORD, rights) for name, (rights, _) in USERS.items()]
    users[1] = ("reader", "sha256:" + hashlib.sha256(PASSWORD.encode()).hexdigest().upper(),
                users[1][2])
    acl = [word for name, (_, rules) in USERS.items() for word in
           ("--user", name, "on", ">" + PASSWORD, "resetchannels", *rules)]
    with Cluster(nodes=3, users=users) as cluster, PlainRedis(
            cluster, "--enable-debug-command", "yes", *acl) as plain:
        yield cluster, plain


@pytest.fixture(name="sides", params=POSITIONS)
def both_sides(guarded, request):
    """Opens connections in pairs, of a user: to the plain Redis, and to the proxy at a position."""
    cluster, plain = guarded
    opened = []

    def connect(user=None):
        pair = Wire(plain.address), Wire(cluster.at(request.param).clients)
        opened.extend(pair)
        for wire in pair:
            if user:
                assert wire.call("AUTH", user, PASSWORD) == b"+OK\r\n"
        return pair

    for wire in connect("default"):
        wire.call("FLUSHALL")
        for command in (("SET", "app:k", "1"), ("SET", "other", "2"), ("SET", "shared", "3"),
                        ("RPUSH", "app:l", "2", "1"), ("RPUSH", "l", "2", "1"),
                        ("XADD", "app:s", "1-1", "f", "v")):
            wire.call(*command)
    yield connect
    for wire in opened:
        wire.close()


def same(pair, line):
    for wire in pair:
        wire.send(encode(*line.split()))
    plain, chain = (comparable(wire.reply()) for wire in pair)
    assert chain == plain, line
    return chain


COMMANDS = """
GET app:k
GET other
get shared
MGET app:k other
MGET app:k shared
SET app:k v
SET other v
DEL app:k other
RENAME app:k app:j
RENAME app:j other
COPY app:j other
COPY app:j app:k
TYPE other
EXISTS app:k other
OBJECT ENCODING other
OBJECT ENCODING app:k
MEMORY USAGE other
STRLEN
SET app:k
GET a b
NOSUCH a b
NoSuch
CONFIG NOSUCH a
CLIENT NOSUCH
MEMORY nosuch
OBJECT NOSUCH app:k
SORT app:l
SORT l
SORT app:l BY x*
SORT app:l BY nosort
SORT app:l GET #
SORT app:l LIMIT 0 1 GET x*
SORT l BY x*
SORT app:l STORE app:d
SORT app:l STORE d
SORT_RO app:l
SORT_RO app:l GET x*
ZUNIONSTORE app:z 2 app:a shared
ZUNIONSTORE app:z 2 app:a z
XREAD COUNT 1 STREAMS app:s 0
XREAD COUNT 1 STREAMS s 0
XREAD COUNT 1 STREAMS app:s s 0 0
XGROUP CREATE app:s g 0
XREADGROUP GROUP g c STREAMS app:s >
XREADGROUP GROUP g c STREAMS s >
BLPOP app:l other 1
BLPOP app:l 1
BITOP AND app:d app:k other
PFCOUNT app:h
PFCOUNT h
GETEX app:k
EVAL return_1 0
EVAL_RO return_1 1 app:k
EVALSHA x 0
FCALL f 0
FCALL_RO f 0
SCRIPT EXISTS x
FUNCTION LIST
FUNCTION FLUSH
KEYS nosuch*
DBSIZE x
FLUSHALL
FLUSHDB ASYNC
SWAPDB 1 2
PUBLISH news:1 x
PUBLISH other x
SPUBLISH other x
PUBSUB CHANNELS nosuch
CONFIG GET maxmemory
CONFIG SET maxmemory 0
CLIENT LIST
CLIENT KILL ID 99999
CLIENT PAUSE 1
CLIENT UNBLOCK 99999
CLIENT NO-EVICT on
CLIENT SETNAME me
CLIENT GETNAME
CLIENT TRACKING OFF
SLOWLOG LEN
LATENCY LATEST
MONITOR x
ROLE
LASTSAVE
BGSAVE SCHEDULE x
SHUTDOWN NOSAVE
REPLICAOF h 1
DEBUG SLEEP 0
SAVE
ACL WHOAMI
ACL SETUSER x
ACL LIST
INFO nosuch
COMMAND COUNT x
COMMAND GETKEYS GET k
SELECT 1
SELECT 0
PING
ECHO a
WAIT 0 -1
MIGRATE 127.0.0.1 1 other 0 1
RESTORE app:r 0 nonsense
DUMP other
TOUCH app:k other
WATCH app:k
WATCH other
UNWATCH
LOLWUT VERSION 999
RESET x
""".strip().splitlines()
# Nobody may give these through Catena.
REFUSED_TO_ALL = {"SHUTDOWN", "REPLICAOF", "DEBUG"}


def allowed_by_catena(user, line):
    """The unlimited user would get Catena's own refusals, or stop the plain Redis."""
    words = line.split()
    own = words[0] in REFUSED_TO_ALL | {"MONITOR", "ROLE", "SAVE", "BGSAVE", "LASTSAVE"}
    listing = words[:2] in (["ACL", "SETUSER"], ["ACL", "LIST"], ["CLIENT", "LIST"])
    return user != "default" or not (own or listing)


@pytest.mark.parametrize("user", USERS)
def test_each_command(sides, user):
    pair = sides(user)
    denied = 0
    for line in COMMANDS:
        if allowed_by_catena(user, line):
            denied += same(pair, line).startswith(b"-NOPERM")
    assert (denied > 10) == (user != "default")


@pytest.mark.parametrize("user", USERS)
def test_all_in_one_pipeline(sides, user):
    pair = sides(user)
    lines = [line for line in COMMANDS if allowed_by_catena(user, line)]
    for wire in pair:
        wire.send(b"".join(encode(*line.split()) for line in lines))
    plain, chain = (wire.replies(len(lines)) for wire in pair)
    assert chain == plain


@pytest.mark.parametrize("user", [name for name in USERS if name != "default"])
def test_inside_transactions(sides, user):
    pair = sides(user)
    for inside in ("GET app:k", "GET other", "SET app:k 1", "EVAL x 0", "CONFIG GET x", "NOSUCH",
                   "PUBLISH other x", "FLUSHALL"):
        for line in ("MULTI", "GET app:k", inside, "PING", "EXEC", "PING"):
            same(pair, line)
        for wire in pair:
            wire.send(b"".join(encode(*line.split()) for line in ("MULTI", inside, "EXEC")))
        assert pair[1].replies(3) == pair[0].replies(3), inside


@pytest.mark.parametrize("user", USERS)
def test_subscribers(sides, user):
    pair = sides(user)
    for line in ("SUBSCRIBE other", "SUBSCRIBE news", "PSUBSCRIBE news*", "PSUBSCRIBE news",
                 "PSUBSCRIBE *", "SUBSCRIBE nil", "SUBSCRIBE nul", "SSUBSCRIBE other",
                 "SSUBSCRIBE news", "CONFIG GET x", "GET other", "GET app:k", "SUNSUBSCRIBE news",
                 "PUNSUBSCRIBE other", "UNSUBSCRIBE other", "SUBSCRIBE nil other"):
        allowed = not same(pair, line).startswith(b"-")
        if line == "SUBSCRIBE nil other" and allowed:
            assert pair[1].reply() == pair[0].reply()
    same(pair, "RESET")


LOGINS = f"""
GET app:k
AUTH {PASSWORD}
ACL WHOAMI
SET other 1
AUTH reader wrong
SET other 2
AUTH reader {PASSWORD}
ACL WHOAMI
SET other 3
GET other
AUTH tenant {PASSWORD}
GET other
SET app:k 4
AUTH nobody x
SET app:k 5
HELLO 3 AUTH viewer {PASSWORD}
ACL WHOAMI
SET app:k 6
GET app:k
GET other
HELLO 2 AUTH default {PASSWORD}
SET other 7
HELLO 3 AUTH reader {PASSWORD} SETNAME me
CLIENT GETNAME
DEL other
RESET
GET app:k
AUTH default {PASSWORD}
EVAL return{{1}} 0
""".strip().splitlines()
PIPELINED_LOGINS = f"""
SET other a
AUTH reader {PASSWORD}
SET other b
AUTH {PASSWORD}
SET other c
AUTH tenant {PASSWORD}
GET other
SET shared d
MULTI
GET other
EXEC
RESET
GET shared
""".strip().splitlines()


def test_logins_change_what_is_allowed(sides):
    pair = sides()
    for line in LOGINS:
        same(pair, line)
    for wire in pair:
        wire.send(b"".join(encode(*line.split()) for line in PIPELINED_LOGINS))
    plain, chain = (wire.replies(len(PIPELINED_LOGINS)) for wire in pair)
    assert chain == plain


@pytest.mark.parametrize("user", USERS)
def test_clients_are_listed_with_their_user(guarded, user):
    cluster, _ = guarded
    node = cluster.middle()
    with Wire(node.clients) as wire, Wire(node.clients) as admin:
        wire.call("AUTH", user, PASSWORD)
        admin.call("AUTH", PASSWORD)
        number = wire.call("CLIENT", "ID")[1:].strip()
        assert f" user={user} ".encode() in wire.call("CLIENT", "INFO")
        assert f" user={user} ".encode() in admin.call("CLIENT", "LIST", "ID", number)
        assert admin.call("CLIENT", "KILL", "USER", user) == b":1\r\n"
        assert wire.rest() == b""


@pytest.mark.parametrize("position", POSITIONS)
def test_nothing_was_done(guarded, position):
    """What was denied had no effect, at any node: by the data, not by the answer."""
    cluster, _ = guarded
    head = cluster.head().direct_client()
    head.flushall()
    head.set("other", "kept")
    for user in ("reader", "viewer", "listener"):
        with Wire(cluster.at(position).clients) as wire:
            wire.call("AUTH", user, PASSWORD)
            lines = [line for line in COMMANDS if line.split()[0] not in REFUSED_TO_ALL]
            wire.send(b"".join(encode(*line.split()) for line in lines))
            wire.replies(len(lines))
    assert head.keys() == [b"other"] and head.get("other") == b"kept"
    cluster.wait_whole()


def test_every_command_by_every_user(guarded):
    """COMMAND with its subcommands: denied wherever the plain Redis says that it would deny."""
    cluster, plain = guarded
    with Wire(plain.address) as admin:
        admin.call("AUTH", PASSWORD)
        every = [unsupported.fill(*command) for command in unsupported.commands(admin)]
        for user in USERS:
            admin.send(b"".join(encode("ACL", "DRYRUN", user, *words) for words in every))
            denied = [words for words, reply in zip(every, admin.replies(len(every)))
                      if b"no permissions" in reply]
            assert (len(denied) > 50) == (user != "default")
            with Wire(cluster.tail().clients) as wire:
                wire.call("AUTH", user, PASSWORD)
                wire.send(b"".join(encode(*words) for words in denied))
                for words, reply in zip(denied, wire.replies(len(denied))):
                    assert reply.startswith(b"-NOPERM"), (user, words, reply)
