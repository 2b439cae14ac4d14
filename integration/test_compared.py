"""What a random sequence seldom meets, side by side at a plain Redis and at each proxy."""

import pytest

import dual
from cluster import Cluster
from processes import wait_until
from test_states import POSITIONS, both_sides, same, talk  # noqa: F401
from wire import encode


@pytest.fixture(name="pair", scope="module")
def started_pair():
    with Cluster(nodes=3) as cluster, dual.Dual(cluster) as pair:
        yield pair


CONVERSATIONS = {
    "databases": """
        SET k 0|SELECT 1|SET k 1|SWAPDB 0 1|GET k|SELECT 0|GET k|MOVE k 1|SELECT 2|SET m 2
        MOVE m 1|MOVE m 1|SELECT 1|GET m|COPY m n DB 3|COPY m n DB 3|COPY m n DB 3 REPLACE
        SELECT 3|GET n|FLUSHDB ASYNC|GET n|DBSIZE|SELECT 1|DBSIZE|FLUSHDB SYNC|DBSIZE
        SWAPDB 0 99|MOVE k 99|FLUSHALL ASYNC|DBSIZE|FLUSHALL NOW|COPY a b DB x|SWAPDB x y""",
    "scripts": """
        SCRIPT EXISTS a|EVALSHA a 0|EVAL return{1} 0|EVAL return 1 0|EVAL x -1|EVAL x 2 a
        SCRIPT LOAD return(5)|EVALSHA 4ca238f611c9d0ae4e9a75a5dbac22aedc1e44e5 0|SCRIPT NOSUCH
        EVAL_RO return(redis.call('set','k','v')) 0
        EVAL_RO return(redis.call('get',KEYS[1])) 1 k|SCRIPT FLUSH ASYNC|SCRIPT FLUSH x
        EVAL return(redis.call('nosuch')) 0|SCRIPT HELP
        EVAL return(redis.error_reply('MY_error')) 0|EVAL return(redis.status_reply('fine')) 0
        EVAL return(redis.call('incr',KEYS[1])) 1 n|GET n
        EVAL_RO return(redis.call('get',KEYS[1])) 1 n""",
    "functions": """
        FUNCTION LIST|FUNCTION STATS|FCALL f 0|FCALL_RO f 0|FUNCTION DELETE l|FUNCTION LOAD x
        FUNCTION FLUSH|FUNCTION FLUSH x|FUNCTION NOSUCH|FUNCTION RESTORE x|FUNCTION KILL""",
    "blocking, with data": """
        RPUSH l a b c d e f g h|BLPOP l 0|BRPOP l none 0|BLMOVE l m LEFT RIGHT 0
        BLMPOP 0 1 l LEFT|BLMPOP 0 2 none l RIGHT COUNT 2|BRPOPLPUSH l m 0|LRANGE l 0 -1
        LRANGE m 0 -1|ZADD z 1 a 2 b 3 c 4 d|BZPOPMIN z 0|BZPOPMAX none z 0|BZMPOP 0 1 z MIN
        BZMPOP 0 1 z MAX COUNT 5|XADD s 1-1 f v|XREAD BLOCK 0 STREAMS s 0|XGROUP CREATE s g 0
        XREADGROUP GROUP g c BLOCK 0 STREAMS s >|XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS s 0""",
    "blocking, in vain": """
        BLPOP l 0.01|BRPOP l m 0.01|BLMOVE l m LEFT LEFT 0.01|BLMPOP 0.01 1 l LEFT
        BRPOPLPUSH l m 0.01|BZPOPMIN z 0.01|BZPOPMAX z 0.01|BZMPOP 0.01 1 z MIN
        XREAD BLOCK 10 STREAMS s $|XGROUP CREATE s g 0 MKSTREAM
        XREADGROUP GROUP g c BLOCK 10 STREAMS s >|BLPOP l -1|BLPOP l x|BLPOP l
        BLMOVE l m UP LEFT 0|BLMPOP 0 x l LEFT|BZMPOP -1 1 z MIN|XREAD BLOCK -1 STREAMS s $
        XREADGROUP GROUP none c BLOCK 10 STREAMS s >|SET t v|BLPOP t 0.01|BZPOPMIN t 0.01
        BLMOVE t l LEFT LEFT 0.01|XREAD BLOCK 10 STREAMS t $""",
    "dump and restore": """
        SET q v|OBJECT FREQ q|OBJECT IDLETIME none|DUMP none|RESTORE k 0 nonsense|RESTORE k -1 x
        RESTORE k x y|SET k v|RESTORE k 0 x|OBJECT HELP|OBJECT ENCODING k|OBJECT REFCOUNT k
        OBJECT FREQ k|OBJECT ENCODING none|MEMORY USAGE none|MEMORY USAGE k SAMPLES x
        MEMORY HELP""",
    "sort and geo": """
        RPUSH l 3 1 2|MSET w_1 30 w_2 10 w_3 20|SORT l|SORT l BY w_*
        SORT l BY w_* GET # GET w_* DESC|SORT_RO l BY w_* LIMIT 1 1|SORT l STORE d|LRANGE d 0 -1
        SORT l ALPHA BY nosort|SORT w_1|SORT l BY
        GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
        GEODIST g Palermo Catania km|GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST
        GEOHASH g Palermo|GEOPOS g Palermo no|GEORADIUS g 15 37 200 km WITHCOORD
        GEORADIUS_RO g 15 37 200 km|GEORADIUS g 15 37 200 km STORE st
        GEORADIUSBYMEMBER_RO g Palermo 500 km
        GEOSEARCHSTORE sg g FROMMEMBER Palermo BYBOX 500 500 km|ZRANGE sg 0 -1|ZCARD st""",
    "about the server": """
        CONFIG GET maxmemory-policy|CONFIG GET|CONFIG SET nosuch 1|CONFIG SET slowlog-max-len 99
        CONFIG GET slowlog-max-len|CONFIG SET slowlog-max-len 128 nosuch 2
        CONFIG SET slowlog-max-len 128|CONFIG RESETSTAT|CONFIG RESETSTAT x|CONFIG NOSUCH
        CONFIG HELP|SLOWLOG RESET|SLOWLOG GET x|SLOWLOG HELP|LATENCY RESET|LATENCY HISTORY none
        LATENCY NOSUCH|LATENCY HELP|TIME x|LOLWUT VERSION 999 x|COMMAND COUNT|COMMAND INFO get
        COMMAND GETKEYS SORT l STORE d|CLUSTER INFO|CLUSTER NOSUCH|PUBSUB HELP|PUBSUB NUMPAT
        PUBSUB SHARDNUMSUB a|PUBSUB NOSUCH|ACL CAT nosuch""",
}


@pytest.mark.parametrize("topic", CONVERSATIONS)
def test_conversations(both, topic):
    lines = [line.strip() for row in CONVERSATIONS[topic].splitlines() for line in row.split("|")]
    sides = both()
    for line in filter(None, lines):
        same(sides, *line.split())


LIBRARY = """#!lua name=l
redis.register_function('put', function(k, a) return redis.call('set', k[1], a[1]) end)
redis.register_function{function_name='look', flags={'no-writes'},
                        callback=function(k) return redis.call('get', k[1]) end}"""


def test_functions(pair, both):
    sides = both()
    for command in (("FUNCTION", "LOAD", LIBRARY), ("FUNCTION", "LOAD", LIBRARY),
                    ("FUNCTION", "LOAD", "REPLACE", LIBRARY), ("FCALL", "put", "1", "k", "v"),
                    ("FCALL", "look", "1", "k"), ("FCALL_RO", "look", "1", "k"),
                    ("FCALL_RO", "put", "1", "k", "w"), ("FCALL_RO", "nosuch", "0"), ("GET", "k"),
                    ("FUNCTION", "LIST", "LIBRARYNAME", "nosuch")):
        same(sides, *command)
    for position in POSITIONS:  # it is data: on every node, for reads there
        client = pair.cluster.at(position).redis_client()
        assert client.fcall_ro("look", 1, "k") == b"v"
        assert client.execute_command("FUNCTION", "LIST")[0][1] == b"l"
    dump = sides[1].call("FUNCTION", "DUMP")
    payload = dump.split(b"\r\n", 1)[1][:-2]
    same(sides, "FUNCTION", "DELETE", "l")
    same(sides, "FUNCTION", "RESTORE", payload)
    same(sides, "FUNCTION", "RESTORE", payload)
    same(sides, "FCALL", "look", "1", "k")


def test_scripts_that_one_proxy_loaded_run_at_all(pair, both):
    sides = both()
    sha = same(sides, "SCRIPT", "LOAD", "return redis.call('append', KEYS[1], ARGV[1])")[0]
    sha = sha.split(b"\r\n")[1].decode()
    for position in POSITIONS:
        pair.cluster.at(position).redis_client().evalsha(sha, 1, "k", "x")
        pair.client.evalsha(sha, 1, "k", "x")
        same(sides, "EVALSHA", sha, "1", "k", "y")
        same(sides, "EVALSHA_RO", sha, "1", "k", "y")
    same(sides, "SCRIPT", "EXISTS", sha, "nosuch")
    same(sides, "GET", "k")


WAKINGS = [
    ("BLPOP none l 0", "RPUSH l a b"), ("BRPOP l 0", "LPUSH l a b"),
    ("BLMOVE l m LEFT RIGHT 0", "RPUSH l a"), ("BLMPOP 0 2 none l LEFT COUNT 2", "RPUSH l a b c"),
    ("BZPOPMIN z 0", "ZADD z 1 a 2 b"), ("BZPOPMAX z 0", "ZADD z 1 a 2 b"),
    ("BZMPOP 0 1 z MIN COUNT 2", "ZADD z 1 a 2 b 3 c"),
    ("XREAD BLOCK 0 STREAMS s $", "XADD s 5-1 f v"),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS sg >", "XADD sg 5-1 f v"),
    ("BLPOP l 0", "SORT src STORE l"), ("BLPOP l 0", "RENAME src l"), ("BLPOP l 0", "COPY src l"),
]


@pytest.mark.parametrize("command, wake", WAKINGS)
def test_the_blocked_are_woken(pair, both, command, wake):
    """By a client at another position; the keys are left as they must be."""
    blocked = both()
    for client in (pair.client, pair.cluster.head().redis_client()):
        client.rpush("src", "2", "1")
        client.xgroup_create("sg", "g", mkstream=True)
    for side in blocked:
        side.send(encode(*command.split()))
    for client in (pair.client, pair.cluster.head().direct_client()):
        wait_until(lambda client=client: client.info("clients")["blocked_clients"] == 1, 10,
                   "it is blocked")
    for client in (pair.client, pair.cluster.middle().redis_client()):
        client.execute_command(*wake.split())
    plain, chain = (side.reply() for side in blocked)
    assert chain == plain
    for line in ("LRANGE l 0 -1", "LRANGE m 0 -1", "ZRANGE z 0 -1", "XLEN s", "XPENDING sg g"):
        same(blocked, *line.split())


@pytest.mark.parametrize("command", ["BZPOPMAX z 0", "BZMPOP 0 1 z MIN", "BRPOP l 0",
                                     "XREADGROUP GROUP g c BLOCK 0 STREAMS sg >"])
def test_the_gone_take_nothing(pair, both, command):
    blocked = both()
    head = pair.cluster.head().direct_client()
    pair.cluster.tail().redis_client().xgroup_create("sg", "g", mkstream=True)
    blocked[1].send(encode(*command.split()))
    wait_until(lambda: head.info("clients")["blocked_clients"] == 1, 10, "it is blocked")
    blocked[1].close()
    wait_until(lambda: head.info("clients")["blocked_clients"] == 0, 10, "it is forgotten")
    client = pair.cluster.middle().redis_client()
    client.zadd("z", {"a": 1})
    client.rpush("l", "a")
    client.xadd("sg", {"f": "v"})
    assert client.zcard("z") == client.llen("l") == 1
    assert client.xpending("sg", "g")["pending"] == 0


def test_keyspace_notifications(pair, both):
    """Each node's own server tells of them, when it applies the change."""
    servers = [pair.client] + [node.direct_client() for node in pair.cluster.wait_members()]
    for server in servers:
        server.config_set("notify-keyspace-events", "KEA")
    try:
        sides = both()
        same(sides, "PSUBSCRIBE", "__key*__:*")
        for client in (pair.client, pair.cluster.middle().redis_client()):
            client.set("k", "v")
            client.lpush("l", "a")
            client.rename("k", "j")
            client.expire("j", 100)
            client.delete("j", "l")
        plain, chain = (side.replies(14) for side in sides)
        assert chain == plain
        same(sides, "PING", "last")
    finally:
        for server in servers:
            server.config_set("notify-keyspace-events", "")


def test_pubsub_tells_of_the_nodes_subscribers(both):
    listening, asking = both(), both()
    for line in ("SUBSCRIBE news", "PSUBSCRIBE n*", "SSUBSCRIBE shard"):
        same(listening, *line.split())
    for line in ("PUBSUB CHANNELS", "PUBSUB NUMSUB news none", "PUBSUB NUMPAT",
                 "PUBSUB CHANNELS x*", "PUBSUB SHARDCHANNELS", "PUBSUB SHARDNUMSUB shard none",
                 "PUBSUB NUMSUB"):
        same(asking, *line.split())


@pytest.mark.parametrize("mode", ["linearizable", "sequential", "eventual", "tail"])
def test_modes_of_consistency_answer_alike(both, mode):
    """Writes, errors, transactions and scripts do not depend on the mode."""
    sides = both()
    assert sides[1].call("CATENA", "CONSISTENCY", mode) == b"+OK\r\n"
    assert sides[1].call("CATENA", "CONSISTENCY") == b"$%d\r\n%b\r\n" % (len(mode), mode.encode())
    talk(sides, """
        SET k 1
        INCR k
        LPUSH k x
        MULTI
        GET k
        INCR k
        EXEC
        EVAL return(redis.call('get',KEYS[1])) 1 k
        WATCH k
        GETSET k 9
        MULTI
        PING
        EXEC
        GETDEL k
        NOSUCH
        GET""")
    assert sides[1].call("READONLY") == sides[1].call("READWRITE") == b"+OK\r\n"
    assert sides[1].call("CATENA", "CONSISTENCY") == b"$12\r\nlinearizable\r\n"
