"""Existing clients, unmodified, through every proxy of a chain, and equal data behind them."""

import subprocess

import pytest

import dataset
from processes import wait_until

POSITIONS = ("head", "middle", "tail")
BENCHMARKS = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset"


def address(node):
    host, port = node.clients.rsplit(":", 1)
    return ["-h", host, "-p", port]


def redis_cli(node, *arguments, stdin=None):
    done = subprocess.run(["redis-cli", "-e", *address(node), *arguments], input=stdin,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    assert done.stderr == ""
    return done.stdout


def wait_equal(cluster):
    """The databases of all members hold the same, by DUMP and PEXPIRETIME; expiry may still run."""
    clients = [node.direct_client() for node in cluster.wait_members()]
    last = []

    def equal():
        nonlocal last
        last = dataset.differences(clients)
        return not last

    wait_until(equal, 30, lambda: f"equal data: {last}", interval=0.2)
    assert dataset.snapshot(clients[0]), "there is nothing to compare"


@pytest.fixture(name="client", params=POSITIONS)
def client_at_position(cluster, request):
    client = cluster.at(request.param).redis_client()
    client.flushall()
    yield client
    client.close()


# --- redis-cli ---


@pytest.mark.parametrize("position", POSITIONS)
def test_redis_cli(cluster, position):
    node = cluster.at(position)
    key = f"cli:{position}"
    assert redis_cli(node, "PING") == "PONG\n"
    assert redis_cli(node, "SET", key, "value") == "OK\n"
    for other in cluster.wait_members():
        assert redis_cli(other, "GET", key) == "value\n"
    assert redis_cli(node, "-n", "3", "SET", key, "in three") == "OK\n"
    assert redis_cli(node, "GET", key) == "value\n"
    assert redis_cli(node, "-3", "HSET", f"{key}:hash", "field", "1") == "1\n"
    assert redis_cli(node, "-3", "--json", "HGETALL", f"{key}:hash") == '{"field":"1"}\n'
    assert key in redis_cli(node, "--scan", "--pattern", f"{key}*").split()
    assert redis_cli(node, stdin=f"INCR {key}:n\nINCRBY {key}:n 41\nGET {key}:n\n") == "1\n42\n42\n"
    assert redis_cli(node, "-x", "SET", key, stdin="from stdin") == "OK\n"
    assert "# Catena" in redis_cli(node, "INFO")


@pytest.mark.parametrize("position", POSITIONS)
def test_redis_cli_mass_insertion(cluster, position):
    count = 20000
    commands = "".join(f"SET mass:{position}:{i} {'v' * (1 + i % 100)}\n" for i in range(count))
    done = redis_cli(cluster.at(position), "--pipe", stdin=commands)
    assert f"errors: 0, replies: {count}" in done
    for node in cluster.wait_members():
        assert redis_cli(node, "STRLEN", f"mass:{position}:{count - 1}") == "100\n"


def test_errors_are_those_of_redis(cluster):
    for position in POSITIONS:
        through, direct = cluster.at(position), cluster.head().direct_client()
        host, port = direct.connection_pool.connection_kwargs["host"], direct.connection_pool \
            .connection_kwargs["port"]
        redis_cli(through, "SET", "text", "abc")
        for command in (["INCR", "text"], ["LPUSH", "text", "x"], ["GET"], ["NOSUCH", "a", "b"],
                        ["SET", "a", "b", "XX", "NX"], ["EVAL", "return redis.call('nope')", "0"]):
            wanted = subprocess.run(["redis-cli", "-h", host, "-p", str(port), *command],
                                    capture_output=True, text=True, timeout=30, check=True).stdout
            got = subprocess.run(["redis-cli", *address(through), *command],
                                 capture_output=True, text=True, timeout=30, check=True).stdout
            assert got == wanted


# --- redis-benchmark ---


@pytest.mark.parametrize("pipeline", ["1", "16"])
@pytest.mark.parametrize("position", POSITIONS)
def test_redis_benchmark(cluster, position, pipeline):
    node = cluster.at(position)
    node.redis_client().flushall()
    done = subprocess.run(["redis-benchmark", *address(node), "-t", BENCHMARKS, "-P", pipeline,
                           "-n", "4000", "-r", "1000", "-d", "32", "--csv"],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == ""
    assert "rror" not in done.stdout
    ran = {line.split('"')[1] for line in done.stdout.splitlines() if line.startswith('"')}
    assert {"SET", "GET", "INCR", "SPOP", "ZPOPMIN", "LRANGE_600 (first 600 elements)"} <= ran
    wait_equal(cluster)


# --- redis-py ---


def test_redis_py_types(cluster, client):
    client.set("s", "1")
    assert client.append("s", "23") == 3
    assert client.getrange("s", 0, 1) == b"12"
    assert client.incr("s") == 124
    assert client.mset({"m1": "a", "m2": "b"})
    assert client.mget("m1", "m2", "none") == [b"a", b"b", None]
    assert client.rpush("l", *range(10)) == 10
    assert client.lrange("l", 2, 4) == [b"2", b"3", b"4"]
    assert client.lmove("l", "l2", "LEFT", "RIGHT") == b"0"
    assert client.hset("h", mapping={"a": 1, "b": 2}) == 2
    assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
    assert client.sadd("set", "x", "y", "z") == 3
    assert client.sinter("set", "set") == {b"x", b"y", b"z"}
    assert client.zadd("z", {"one": 1, "two": 2}) == 2
    assert client.zrange("z", 0, -1, withscores=True) == [(b"one", 1.0), (b"two", 2.0)]
    assert client.setbit("bits", 7, 1) == 0
    assert client.bitcount("bits") == 1
    assert client.pfadd("hll", "a", "b") == 1
    assert client.pfcount("hll") == 2
    assert client.geoadd("geo", (13.361389, 38.115556, "Palermo")) == 1
    first = client.xadd("stream", {"k": "v"})
    assert client.xrange("stream") == [(first, {b"k": b"v"})]
    assert client.sort("l", desc=True)[0] == b"9"
    assert client.eval("return redis.call('incrby', KEYS[1], ARGV[1])", 1, "s", 6) == 130
    assert client.register_script("return redis.call('get', KEYS[1])")(keys=["s"]) == b"130"
    assert client.rename("m1", "m3")
    assert client.copy("m3", "m4")
    assert client.expire("m4", 1000) and 0 < client.ttl("m4") <= 1000
    assert sorted(client.scan_iter("m*")) == [b"m2", b"m3", b"m4"]
    assert client.dbsize() == len(list(client.scan_iter()))
    wait_equal(cluster)


def test_redis_py_connection_commands(client):
    assert client.ping()
    assert client.echo("hello") == b"hello"
    assert client.client_setname("tester")
    assert client.client_getname() == "tester"
    assert client.info()["redis_version"]
    assert client.command_count() > 100
    assert client.wait(2, 1000) == 2
    assert client.type("none") == b"none"


def test_redis_py_reads_its_writes_everywhere(cluster, client):
    """A linearizable read at any proxy shows a write that was answered before."""
    others = [node.redis_client() for node in cluster.wait_members()]
    for i in range(200):
        client.set("counter", i)
        for other in others:
            assert int(other.get("counter")) == i


def test_redis_py_pipelines_keep_their_order(client):
    pipeline = client.pipeline(transaction=False)
    for i in range(2000):
        pipeline.set("p", i)
        pipeline.get("p")
    answers = pipeline.execute()
    assert answers[1::2] == [str(i).encode() for i in range(2000)]


def test_databases_are_apart(cluster, client):
    zero, five = client, cluster.tail().redis_client(db=5)
    zero.set("same", "zero")
    five.set("same", "five")
    assert zero.get("same") == b"zero"
    assert cluster.head().redis_client(db=5).get("same") == b"five"
    wait_equal(cluster)


def test_large_values(cluster, client):
    value = bytes(range(256)) * 40000  # 10 MB with every byte in it
    client.set("large", value)
    for node in cluster.wait_members():
        assert node.redis_client().get("large") == value


# --- equal data after what a server decides by itself ---


def test_effects_that_depend_on_the_server_are_equal_everywhere(cluster, client):
    """SPOP, SET EX, INCRBYFLOAT, XADD *, scripts with random and time, expiry."""
    pipeline = client.pipeline(transaction=False)
    for i in range(300):
        pipeline.sadd(f"set:{i % 7}", *(f"member{i}:{j}" for j in range(20)))
        pipeline.spop(f"set:{i % 7}", 5)
        pipeline.set(f"short:{i}", i, px=100 + i)
        pipeline.set(f"long:{i}", i, ex=1000 + i)
        pipeline.expire(f"long:{i}", 2000 + i)
        pipeline.incrbyfloat(f"float:{i % 5}", 0.1 * i)
        pipeline.hincrbyfloat("floats", f"f{i % 5}", 1.0 / (i + 1))
        pipeline.xadd(f"stream:{i % 3}", {"i": i}, maxlen=50, approximate=True)
        pipeline.srandmember(f"set:{i % 7}", 3)
        pipeline.eval("redis.call('set', KEYS[1], math.random(1, 1000000)) "
                      "redis.call('set', KEYS[2], redis.call('time')[2]) "
                      "return redis.call('spop', KEYS[3])", 3, f"random:{i % 10}", "time",
                      f"set:{i % 7}")
    pipeline.execute()
    direct = [node.direct_client() for node in cluster.wait_members()]
    wait_until(lambda: not any(any(d.scan_iter("short:*", count=1000)) for d in direct), 30,
               "short-lived keys are gone everywhere", interval=0.1)
    wait_equal(cluster)
    positions = {d.info("replication")["master_repl_offset"] for d in direct}
    assert len(positions) == 1


def test_eviction_at_the_head_reaches_everybody(cluster, client):
    direct = cluster.head().direct_client()
    used = direct.info("memory")["used_memory"]
    before = direct.info("stats")["evicted_keys"]
    try:
        direct.config_set("maxmemory", used + (8 << 20))
        direct.config_set("maxmemory-policy", "allkeys-lru")
        for batch in range(60):
            pipeline = client.pipeline(transaction=False)
            for i in range(200):
                pipeline.set(f"evict:{batch}:{i}", b"x" * 1500)
            pipeline.execute()
        assert direct.info("stats")["evicted_keys"] > before + 1000
        wait_equal(cluster)
    finally:
        direct.config_set("maxmemory", 0)
        direct.config_set("maxmemory-policy", "noeviction")


def test_a_client_past_the_proxy_is_seen_everywhere(cluster, client):
    """A legacy writer at the head's Redis."""
    direct = cluster.head().direct_client()
    for i in range(100):
        direct.set("legacy", i)
    for node in cluster.wait_members():
        assert node.redis_client().get("legacy") == b"99"
    wait_equal(cluster)
