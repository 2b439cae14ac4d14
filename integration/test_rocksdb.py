"""What a chain with RocksDB inside its proxies promises besides what all chains do.

    CATENA_ROUNDS=100 pytest integration/test_rocksdb.py -k killed_at_once          # so many rounds
    CATENA_LIMITS=all pytest integration/test_rocksdb.py -k joins_under_load -rP    # 2 GB
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

import workload
from cluster import ROOT, Cluster, binary_directory
from outage import check_settled
from processes import wait_until
from slow_disk import SlowDisk, build_library
from wire import Wire, encode

sys.path.insert(0, str(ROOT / "integration" / "bench"))
from loader import Load, Shape  # noqa: E402

HERE = Path(__file__).resolve().parent
MB = 1 << 20
ROUNDS = int(os.environ.get("CATENA_ROUNDS", "5"))
HEAVY = os.environ.get("CATENA_LIMITS") == "all"


def direct(*arguments):
    """What rocksdb-direct prints, which knows nothing of Catena."""
    done = subprocess.run([str(binary_directory() / "rocksdb-direct"), *map(str, arguments)],
                          capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Owner:
    """A program of the owner that stays: a secondary reader, or one that holds the database."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            [str(binary_directory() / "rocksdb-direct"), *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self._process.poll() is None:
            self._process.communicate()

    def line(self):
        return self._process.stdout.readline().rstrip(b"\n")

    def get(self, key):
        self._process.stdin.write(key.encode() + b"\n")
        self._process.stdin.flush()
        return self.line()


def options_of(node):
    """The text of a database's newest OPTIONS file."""
    files = Path(node.backend).glob("OPTIONS-*[0-9]")
    newest = max(files, key=lambda file: int(file.name.split("-")[1]))
    return newest.read_text(encoding="utf-8")


def report_of(cluster, node):
    chain = cluster.chain_status()
    nodes = chain["nodes"] if chain else []
    return next((n for n in nodes if n["report"]["node"] == node.id), None)


def epoch(cluster):
    chain = cluster.chain_status()
    return chain["record"]["configuration"]["epoch"] if chain else 0


def start_all(cluster):
    for process in cluster.processes():
        process.start()


@pytest.fixture(name="cluster", scope="module")
def started_cluster():
    with Cluster(nodes=3, backend="rocksdb", settings={"coordinator.lease": "1s"}) as started:
        yield started


# --- the owner's directory ---


def test_an_owners_database_is_served_and_stays_the_owners(tmp_path):
    """Written by a program with options of its own, which reads it while the chain works."""
    cluster = Cluster(nodes=3, backend="rocksdb", directory=tmp_path / "cluster")
    first = cluster.nodes[0]
    direct("put", first.backend, "name", "\u00fcber all", "old", "1")
    direct("fill", first.backend, "--key-prefix", "user:", "--key-count", 3000, "--bytes", 200,
           "--compression", "zlib")
    owned = direct("get", first.backend, "user:000000000007").rstrip(b"\n")
    with cluster:
        assert cluster.head() is first
        for node in cluster.nodes:
            assert node.redis_client().get("user:000000000007") == owned and len(owned) == 200
            assert node.redis_client().get("name") == "\u00fcber all".encode()
            assert node.direct_client().dbsize() == 3002
        with Owner("secondary", cluster.tail().backend, tmp_path / "own") as secondary:
            assert secondary.get("old") == b"1"
            for number in range(5):
                cluster.middle().redis_client().set("old", f"new {number}")
                wait_until(lambda n=number: secondary.get("old") == b"new %d" % n, 10,
                           "the secondary reads what the chain has written")
        assert direct("get", first.backend, "old") == b"new 4\n"
        cluster.head().redis_client().delete("name")
        cluster.wait_position()
    # What the owner chose is still so, and his program opens the database as it did.
    assert "kZlibCompression" in options_of(first)
    for node in cluster.nodes:
        assert direct("get", node.backend, "old", "name") == b"new 4\n(none)\n"
    direct("put", first.backend, "back", "again")


def test_a_locked_directory_is_told_and_taken_when_it_is_free():
    cluster = Cluster(nodes=3, backend="rocksdb")
    last = cluster.nodes[2]
    try:
        with Owner("hold", last.backend) as owner:
            assert owner.line() == b"open"
            start_all(cluster)
            cluster.wait_whole(members=2, without=[last.id])
            problem = wait_until(lambda: (report_of(cluster, last) or {"report": {"backend": {}}})
                                 ["report"]["backend"].get("problem"), 10, "a problem is told")
            assert f"open the database in {last.backend}" in problem, problem
            assert "has it open for writing" in problem, problem
            shown = subprocess.run([str(cluster.binaries / "catenactl"), "--config",
                                    str(cluster.config), "status"], capture_output=True, text=True,
                                   timeout=10, check=True).stdout
            assert problem in shown
        cluster.wait_whole()
    finally:
        cluster.stop()


def test_a_strangers_database_is_refused_and_left_alone():
    cluster = Cluster(nodes=3, backend="rocksdb")
    stranger = cluster.nodes[2]
    direct("put", stranger.backend, "theirs", "1", "more", "2")
    try:
        start_all(cluster)
        cluster.wait_whole(members=2, without=[stranger.id])
        notice = wait_until(lambda: (report_of(cluster, stranger) or {}).get("notice"), 20,
                            "the status tells why the node is refused")
        assert "was never part of this chain; empty it or set overwrite = true" in notice, notice
        stranger.redis_client().set("through", "the stranger")
        assert cluster.head().redis_client().get("through") == b"the stranger"
        stranger.proxy.kill()
        assert direct("get", stranger.backend, "theirs", "through") == b"1\n(none)\n"
    finally:
        cluster.stop()


# --- what it answers ---


def test_ranges_in_order_at_every_node(cluster):
    cluster.head().redis_client().flushall()
    cluster.head().redis_client().mset({f"r:{i:03}": i for i in range(100)})
    for node in cluster.nodes:
        client = node.redis_client()

        def ranged(*arguments, asked=client):
            flat = asked.execute_command("CATENA.RANGE", *arguments)
            return [key.decode() for key in flat[::2]], [int(value) for value in flat[1::2]]

        assert ranged("r:010", "r:012") == (["r:010", "r:011", "r:012"], [10, 11, 12])
        assert ranged("r:098x", "+") == (["r:099"], [99])
        assert ranged("-", "+", "LIMIT", 2, "REVERSE") == (["r:099", "r:098"], [99, 98])
        assert ranged("s", "t") == ([], [])


def test_what_it_has_not_is_an_error_that_says_so(cluster):
    for position in ("head", "tail"):
        with Wire(cluster.at(position).clients) as wire:
            for command in (("LPUSH", "k", "x"), ("HSET", "k", "f", "v"), ("EVAL", "return 1", "0"),
                            ("XADD", "k", "*", "f", "v")):
                reply = wire.call(*command)
                assert reply.startswith(b"-ERR ") and b"rocksdb" in reply, reply
                assert command[0].lower() in reply.decode().lower()
            assert wire.call("SET", "k", "v") == b"+OK\r\n"
            assert wire.call("SELECT", "1").startswith(b"-ERR DB index is out of range")


def test_info_has_the_databases_own_figures(cluster):
    text = cluster.tail().redis_client().execute_command("INFO", "everything")
    assert any(name.startswith("rocksdb_") for name in text), sorted(text)
    assert text["catena_role"] == "tail"


# --- what outlives what ---


def strike_all(cluster):
    """SIGKILL of every proxy, all of them before any is seen to be gone."""
    for node in cluster.nodes:
        node.proxy.expected_down = True
        node.proxy.signal(9)
    for node in cluster.nodes:
        node.proxy.kill()


def test_all_nodes_killed_at_once_lose_nothing(cluster):
    """With sync = "always" the chain comes back by itself and has all that was acknowledged."""
    pauses = []
    for number in range(ROUNDS):
        with workload.Load(cluster, depth=1 + number % 4) as load:
            load.wait_progress(count=5 + number % 7)
            before = epoch(cluster)
            strike_all(cluster)
            begun = time.monotonic()
            for node in cluster.nodes:
                node.proxy.start()
            wait_until(lambda: epoch(cluster) > before, 30, "a new epoch")
            cluster.wait_whole()
            pauses.append(time.monotonic() - begun)
            load.wait_progress()
        check_settled(cluster, load)
    print(f"{ROUNDS} rounds; whole again after {max(pauses):.1f} s at the most")


@pytest.mark.parametrize("sync", ["interval", "never"])
def test_weaker_sync_waits_for_the_operator(sync):
    """All nodes killed: what was answered last may be lost, so nobody decides that by himself."""
    with Cluster(nodes=2, backend="rocksdb", settings={"chain.rocksdb.sync": sync}) as cluster:
        client = cluster.head().redis_client()
        client.set("k", "v")
        cluster.wait_position()
        head = cluster.head()
        strike_all(cluster)
        for node in cluster.nodes:
            node.proxy.start()
        wait_until(lambda: "choose" in str((cluster.chain_status() or {}).get("waiting_for")), 30,
                   "the status asks for an operator")
        subprocess.run([str(cluster.binaries / "catenactl"), "--config", str(cluster.config),
                        "choose", "main", head.id, "--yes"], check=True, capture_output=True,
                       timeout=30)
        cluster.wait_whole()
        # SIGKILL is no power cut: the operating system had it.
        assert cluster.tail().redis_client().get("k") == b"v"


def test_a_restarted_proxy_takes_what_it_lacks_from_the_log(cluster):
    """The position is in the database: no copy, whatever the place of the node was."""
    for position in ("tail", "middle", "head"):
        node = cluster.at(position)
        node.redis_client().set("before", position)
        node.proxy.kill()
        cluster.wait_whole(members=2, without=[node.id])
        cluster.head().redis_client().set("meanwhile", position)
        node.proxy.start()
        cluster.wait_whole()
        status, text = node.http("/metrics")
        assert status == 200
        told = {line.split("{")[1].split("}")[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line.startswith("catena_resyncs_total{")}
        assert sum(v for k, v in told.items() if 'kind="partial"' in k) == 1, (position, told)
        assert sum(v for k, v in told.items() if 'kind="full"' in k) == 0, (position, told)
        assert node.direct_client().get("meanwhile") == position.encode()


def test_a_wiped_node_gets_everything_anew(cluster):
    cluster.head().redis_client().mset({f"kept:{i}": i for i in range(500)})
    node = cluster.tail()
    node.proxy.kill()
    cluster.wait_whole(members=2, without=[node.id])
    node.wipe()
    node.proxy.start()
    cluster.wait_whole()
    assert node.direct_client().get("kept:499") == b"499"


# --- a slow disk ---


def test_a_slow_disk_stops_no_heartbeat(tmp_path):
    """Each fsync takes three leases, at one node and at all of them: nobody is taken for dead."""
    library = build_library(tmp_path)
    cluster = Cluster(nodes=3, backend="rocksdb", settings={"coordinator.lease": "1s",
                                                            "chain.write_timeout": "20s"})
    disks = [SlowDisk(node, library) for node in cluster.nodes]
    with cluster:
        before = epoch(cluster)
        with Wire(cluster.head().clients, timeout=30) as writer, \
                Wire(cluster.middle().clients) as reader:
            assert writer.call("SET", "quiet", "1") == b"+OK\r\n"
            cluster.wait_position()
            for slow in ([disks[0]], disks):
                for disk in slow:
                    disk.set(3000)
                begun = time.monotonic()
                writer.send(encode("SET", "slow", "1"))
                longest = 0.0
                while not writer.answered_within(0.01):
                    asked = time.monotonic()
                    assert reader.call("GET", "quiet") == b"$1\r\n1\r\n"
                    longest = max(longest, time.monotonic() - asked)
                print(f"{len(slow)} slow disks: the slowest read at the middle {longest:.2f} s")
                assert writer.reply() == b"+OK\r\n"
                assert time.monotonic() - begun > 2.9, "answered before it was on the disk"
                assert longest < (0.5 if disks[1] not in slow else 3.5)
                for disk in slow:
                    disk.set(0)
        assert epoch(cluster) == before


# --- a full disk ---


class SmallDisk:
    """What a node has for its database, until it is made larger. Wants the right to mount."""

    def __init__(self, directory, megabytes):
        self._directory = str(directory)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small",
                               self._directory], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("no right to mount a small disk")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "--lazy", self._directory], check=True)

    def enlarge(self, megabytes):
        subprocess.run(["mount", "-o", f"remount,size={megabytes}m", self._directory], check=True)


@pytest.mark.parametrize("position", ["tail", "head"])
def test_a_full_disk_costs_its_node_and_nothing_else(position):
    """It says so and leaves, or an assertion of RocksDB ends it; the others go on, and once there is
    room it is one of them again."""
    cluster = Cluster(nodes=3, backend="rocksdb", settings={"coordinator.lease": "1s"})
    full, other = cluster.nodes[-1 if position == "tail" else 0], cluster.nodes[1]
    with SmallDisk(Path(full.backend).parent, 24) as disk, cluster:
        client, written, unknown = other.redis_client(), {}, []

        def write(key):
            written[key] = os.urandom(50_000)
            try:
                client.set(key, written[key])
            except redis.RedisError as error:
                assert str(error).startswith("UNKNOWNOUTCOME"), error
                unknown.append(key)

        def says_full():
            for _ in range(20):
                write(f"k{len(written)}")
            report = report_of(cluster, full)
            return not full.proxy.running() or report and not report["member"] and (
                "No space left on device" in report["report"]["backend"]["problem"])

        wait_until(says_full, 60, "the full disk is told", interval=0)
        assert not unknown or position == "head", unknown
        write("afterwards")
        disk.enlarge(1000)
        if not full.proxy.running():
            assert b"Assertion `" in Path(full.proxy.log).read_bytes()
            full.proxy.start()
        cluster.wait_whole()
        cluster.wait_position()
        for key in unknown:
            del written[key]
        assert full.direct_client().mget(list(written)) == list(written.values())


# --- a join ---


def peak_bytes(process):
    """Of its resident memory, ever."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("size", [120 * MB, pytest.param(2048 * MB, marks=pytest.mark.skipif(
    not HEAVY, reason="CATENA_LIMITS=all runs it"))], ids=["120mb", "2gb"])
def test_a_database_joins_under_load(size):
    """No write waits for it, and no proxy takes more than its caches and 100 MB."""
    caches = {"chain.rocksdb.block_cache": 32, "chain.rocksdb.write_buffer": 8,
              "chain.limits.backlog_bytes": 16}
    # Two buffers are being flushed while a third is filled.
    allowed = (32 + 3 * 8 + 16 + 100) * MB
    settings = {key: f"{value}mb" for key, value in caches.items()}
    cluster = Cluster(nodes=3, backend="rocksdb", settings=settings)
    direct("fill", cluster.nodes[0].backend, "--key-count", size // 1000, "--bytes", 1000)
    spare = cluster.nodes[2]
    try:
        for process in cluster.processes():
            if process is not spare.proxy:
                process.start()
        cluster.wait_whole(members=2, timeout=300)
        shape = Shape(mix="set=1", keys="sequential", connections=4, pipeline=100, rate=1000, size=100)
        with Load([cluster.head().clients], shape, "--seconds", 600) as load:
            wait_until(lambda: cluster.head().redis_client().exists(shape.key(1000)), 60,
                       "load flows")
            begun = time.monotonic()
            spare.proxy.start()
            cluster.wait_whole(timeout=600)
            took = time.monotonic() - begun
            result = load.end()
        assert not result["errors"], result["first_error"]
        assert result["latency_us"]["max"] < 1_000_000
        log = spare.proxy.log.read_text(encoding="utf-8")
        assert log.count("event=snapshot_begins") == 1, "the copy was of the position that it was told of"
        cluster.wait_position()
        peaks = {node.id: peak_bytes(node.proxy) for node in cluster.nodes}
        print(f"{size // MB} MB joined in {took:.1f} s beside {result['rate']:.0f} writes/s, the "
              f"slowest {result['latency_us']['max'] / 1000:.0f} ms; peaks "
              f"{', '.join(f'{n} {p / MB:.0f} MB' for n, p in peaks.items())} of "
              f"{allowed // MB} MB allowed")
        assert max(peaks.values()) < allowed, peaks
        keys = {node.direct_client().get(f"key:{size // 1000 - 1:012}") for node in cluster.nodes}
        assert len(keys) == 1 and None not in keys
    finally:
        cluster.stop()


# --- without any Redis ---


def test_a_smoke_test_without_any_redis(tmp_path):
    """Of the programs that quickstart starts, etcd alone is to be found."""
    (tmp_path / "etcd").symlink_to(shutil.which("etcd"))
    done = subprocess.run([sys.executable, str(HERE / "smoke.py"), "rocksdb"],
                          env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all of it worked" in done.stdout


def test_the_client_library_as_it_is(cluster):
    """redis-py's own conveniences: transactions with a watch, publish/subscribe, scans."""
    writer, reader = cluster.head().redis_client(), cluster.tail().redis_client()
    writer.set("sum", 1)

    def double(pipeline):
        value = int(pipeline.get("sum"))
        pipeline.multi()
        pipeline.set("sum", 2 * value)

    writer.transaction(double, "sum")
    assert reader.get("sum") == b"2"
    with reader.pubsub() as listener:
        listener.subscribe("news")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        writer.publish("news", "all")
        assert wait_until(lambda: listener.get_message(timeout=1), 5, "a message")["data"] == b"all"
    writer.mset({f"scan:{i}": i for i in range(300)})
    assert len(set(reader.scan_iter("scan:*"))) == 300
    with pytest.raises(redis.ResponseError, match="rocksdb"):
        writer.rpush("list", 1)
