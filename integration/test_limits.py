"""Limits as in Redis: ten thousand connections, thousands of blocked clients, values of hundreds of
megabytes, long pipelines, slow readers, and resources that run out: all get served or a clear error,
memory stays bounded, nobody else notices, and no limit costs the chain its head.

CATENA_LIMITS=all adds the heavy variants: 512 MB values, a tail that stands still for a minute."""

import contextlib
import multiprocessing
import os
import resource
import socket
import subprocess
import threading
import time

import pytest

from cluster import Cluster
from processes import wait_until
from test_hostile import IDLE_BYTES, Peak, Pusher, Witness, heavy, unmoved
from wire import Wire, encode

MB = 1 << 20
POSITIONS = ["head", "middle", "tail"]
# Whoever starts thousands of clients on the same machine takes its processors away for a while.
PATIENT = {"coordinator.lease": "10s", "chain.write_timeout": "30s"}
RAISED = ["--client-output-buffer-limit", "replica 2gb 1gb 60"]


@pytest.fixture(name="cluster", scope="module")
def started_cluster():
    with Cluster(nodes=3, settings={"chain.limits.clients_max": "10100", **PATIENT}) as started:
        yield started


@pytest.fixture(autouse=True, scope="module")
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def sockets(address, count):
    host, port = address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)), 30))
               for _ in range(count)]


def read_until(connection, end, start=b""):
    data = start
    while not data.endswith(end):
        piece = connection.recv(1 << 16)
        assert piece, data[:200]
        data += piece
    return data


def blocked_at(node):
    return node.direct_client().info("clients")["blocked_clients"]


def configuration(cluster):
    return cluster.chain_status()["record"]["configuration"]


# --- connections ---


def test_ten_thousand_connections_at_one_proxy(cluster):
    """A thousand blocked, a thousand subscribed, the others idle or busy: everybody is served."""
    node, head, count, each = cluster.tail(), cluster.head(), 10000, 1000
    before = {n.id: n.proxy.resident_bytes() for n in (node, head)}
    with unmoved(cluster), sockets(node.clients, count) as connections:
        for connection in connections:
            connection.sendall(b"PING\r\n")
        for connection in connections:
            assert connection.recv(100) == b"+PONG\r\n"
        idle = node.proxy.resident_bytes()
        blocked, subscribed, busy = (connections[:each], connections[each:2 * each],
                                     connections[2 * each:])
        for connection in blocked:
            connection.sendall(encode("BLPOP", "queue", 0))
        wait_until(lambda: blocked_at(head) == each, 20, "all are blocked at the head's database")
        with_blocked = node.proxy.resident_bytes()
        for connection in subscribed:
            connection.sendall(encode("SUBSCRIBE", "channel"))
        for connection in subscribed:
            read_until(connection, b":1\r\n")
        with_subscribed = node.proxy.resident_bytes()
        print(f"KB for each: connected {(idle - before[node.id]) / count / 1024:.1f}, blocked "
              f"{(with_blocked - idle) / each / 1024:.1f} here and "
              f"{(head.proxy.resident_bytes() - before[head.id]) / each / 1024:.1f} at the head, "
              f"subscribed {(with_subscribed - with_blocked) / each / 1024:.1f}")
        assert with_subscribed - before[node.id] < count * 8192

        writer = cluster.middle().redis_client()
        writer.publish("channel", "to all")
        for connection in subscribed:
            read_until(connection, b"to all\r\n")
        writer.rpush("queue", *range(each))
        woken = [read_until(c, b"\r\n").split(b"\r\n")[-2] for c in blocked]
        assert sorted(map(int, woken)) == list(range(each))
        for number, connection in enumerate(busy):
            connection.sendall(encode("SET", f"busy:{number}", number) + encode("GET", "busy:0"))
        for connection in busy:
            read_until(connection, b"$1\r\n0\r\n")


def test_one_client_too_many(cluster):
    """As by Redis; and the connections of other proxies, one a blocked client, are no clients."""
    with Cluster(nodes=2, settings={"chain.limits.clients_max": "20", **PATIENT}) as small:
        head, tail = small.head(), small.tail()
        with sockets(tail.clients, 20) as blocked, sockets(head.clients, 20) as clients:
            for connection in blocked:
                connection.sendall(encode("BLPOP", "queue", 0))
            wait_until(lambda: blocked_at(head) == 20, 10, "all are blocked")
            for connection in clients:
                connection.sendall(b"PING\r\n")
                assert connection.recv(100) == b"+PONG\r\n"
            for node in (head, tail):
                with Wire(node.clients) as late:
                    assert late.rest() == b"-ERR max number of clients reached\r\n"
            clients[0].sendall(encode("RPUSH", "queue", *range(20)))
            assert clients[0].recv(100) == b":20\r\n"
            for connection in blocked:
                read_until(connection, b"\r\n")
    cluster.check_alive()


@pytest.mark.parametrize("position", ["head", "tail"])
def test_more_blocked_clients_than_the_head_s_database_has_connections(cluster, position):
    """Those too many get an error in step; connections for everybody else are kept."""
    head, node = cluster.head(), cluster.at(position)
    direct = head.direct_client()
    direct.config_set("maxclients", 200)
    time.sleep(1.5)  # the proxy looks each second
    try:
        with unmoved(cluster), sockets(node.clients, 300) as connections:
            for connection in connections:
                connection.sendall(encode("BLPOP", "queue", 0) + encode("ECHO", "next"))
            refused = []

            def settled():
                for connection in connections:
                    if connection in refused:
                        continue
                    connection.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        data = connection.recv(1000)
                        connection.settimeout(15)
                        answer = read_until(connection, b"next\r\n", data)
                        assert answer.startswith(b"-ERR max number of clients reached"), answer
                        assert b"maxclients 200" in answer and head.id.encode() in answer
                        refused.append(connection)
                    connection.settimeout(15)
                return len(refused) + blocked_at(head) == 300

            wait_until(settled, 20, lambda: f"{len(refused)} refused, {blocked_at(head)} blocked",
                       interval=0.1)
            assert 100 < blocked_at(head) <= 136
            # What everybody shares still works, also what has to be connected anew.
            assert node.redis_client(db=5).set("other", "database")
            assert node.redis_client(db=5).get("other") == b"database"
            node.redis_client().rpush("queue", *range(300))
            for connection in connections:
                if connection not in refused:
                    read_until(connection, b"next\r\n")
    finally:
        direct.config_set("maxclients", 10000)
        cluster.head().redis_client().delete("queue")
        time.sleep(1.5)


# --- blocked clients ---


@pytest.mark.parametrize("position", ["head", "tail"])
def test_thousands_of_blocked_clients(cluster, position):
    """Woken in their order, timeouts exact; those who went away take nothing."""
    node, head, count = cluster.at(position), cluster.head(), 2000
    writer = cluster.middle().redis_client()
    with unmoved(cluster), sockets(node.clients, count) as connections:
        for number, connection in enumerate(connections[:1000]):
            connection.sendall(encode("BLPOP", f"list:{number % 500}", 0))
        for connection in connections[1000:1500]:
            connection.sendall(encode("XREAD", "BLOCK", 0, "STREAMS", "stream", "$"))
        wait_until(lambda: blocked_at(head) == 1500, 20, "they are blocked")
        for connection in connections[1500:]:  # from here on they have what they need
            connection.sendall(encode("BLPOP", "never", 0.01))
        for connection in connections[1500:]:
            assert connection.recv(100) == b"*-1\r\n"
        begun = time.monotonic()
        for connection in connections[1500:]:
            connection.sendall(encode("BLPOP", "never", 2))
        for connection in connections[1500:]:
            assert connection.recv(100) == b"*-1\r\n"
            assert time.monotonic() - begun > 1.95
        assert time.monotonic() - begun < 4
        # A client that is gone pops nothing: its place is the next one's.
        for connection in connections[:500:2]:
            connection.close()
        wait_until(lambda: blocked_at(head) == 1250, 10,
                   lambda: f"the head's database knows: {blocked_at(head)} blocked")
        pipeline = writer.pipeline(transaction=False)
        for number in range(500):
            pipeline.rpush(f"list:{number}", "first")
            pipeline.rpush(f"list:{number}", "second")
        pipeline.xadd("stream", {"field": "value"})
        pipeline.execute()
        for number in range(500):
            left = [c for c in (connections[number], connections[number + 500]) if c.fileno() >= 0]
            got = [read_until(c, b"\r\n").split(b"\r\n")[-2] for c in left]
            assert got and set(got) <= {b"first", b"second"}
            assert len(left) == 1 or sorted(got) == [b"first", b"second"]
            if len(left) == 1:
                assert got == [b"first"] and writer.lpop(f"list:{number}") == b"second"
        for connection in connections[1000:1500]:
            assert b"value" in read_until(connection, b"value\r\n")
        assert writer.exists(*[f"list:{n}" for n in range(500)]) == 0
        writer.delete("stream")


def test_blocked_clients_are_woken_in_the_order_in_which_they_came(cluster):
    head = cluster.head()
    with sockets(cluster.tail().clients, 60) as connections:
        for number, connection in enumerate(connections):
            connection.sendall(encode("BLPOP", "ordered", 0))
            wait_until(lambda n=number: blocked_at(head) == n + 1, 10, "it is blocked",
                       interval=0.002)
        cluster.middle().redis_client().rpush("ordered", *range(60))
        for number, connection in enumerate(connections):
            assert read_until(connection, b"\r\n").endswith(b"\r\n%d\r\n" % number)


def test_commands_behind_a_blocked_one_cost_the_others_nothing(cluster):
    """Two thousand clients wait behind their own BLPOP while another one works."""
    node, count, rounds = cluster.tail(), 2000, 3000

    def work():
        begun = node.proxy.cpu_seconds()
        with Wire(node.clients) as wire:
            for _ in range(rounds):
                wire.call("GET", "nothing")
        return node.proxy.cpu_seconds() - begun

    alone = work()
    with sockets(node.clients, count) as connections:
        for connection in connections:
            connection.sendall(encode("BLPOP", "queue", 0) + encode("GET", "nothing"))
        wait_until(lambda: blocked_at(cluster.head()) == count, 20, "all are blocked")
        beside = work()
        print(f"{rounds} commands: {alone:.2f} s of processor time alone, {beside:.2f} s beside")
        assert beside < 3 * alone + 0.5
        cluster.head().redis_client().rpush("queue", *range(count))
        for connection in connections:
            read_until(connection, b"$-1\r\n")


# --- large values ---


def large_set(key, bytes_in_all):
    """SET that is so many bytes long, and its value's length."""
    length = bytes_in_all - len(encode("SET", key, b"")) - len(str(bytes_in_all)) + 1
    head = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key.encode(), length)
    assert len(head) + length + 2 == bytes_in_all
    return head + b"v" * length + b"\r\n", length


def refuses_what_is_too_large(cluster, position, limit):
    """Three quarters of `limit`, and one byte more; alone and as a transaction."""
    node, most = cluster.at(position), limit // 4 * 3
    epoch = configuration(cluster)["epoch"]

    def refused(reply):
        return reply.startswith(b"-ERR ") and b"buffer-limit replica %d" % limit in reply

    with Wire(node.clients, timeout=60) as wire:
        too_large, _ = large_set("large", most + 1)
        wire.send(too_large + encode("ECHO", "next"))
        assert refused(wire.reply())
        assert wire.reply() == b"$4\r\nnext\r\n"
        largest, length = large_set("large", most)
        wire.send(largest + encode("STRLEN", "large") + encode("DEL", "large"))
        assert wire.replies(3) == [b"+OK\r\n", b":%d\r\n" % length, b":1\r\n"]
        half, _ = large_set("half", most // 2)
        wire.send(encode("MULTI") + half + half + encode("PING") + half + encode("EXEC"))
        replies = wire.replies(6)
        assert replies[:3] == [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"]
        assert refused(replies[3]) and refused(replies[4]) and b"-EXECABORT " in replies[5]
    cluster.wait_position()
    assert configuration(cluster)["epoch"] == epoch


@pytest.fixture(name="strict", scope="module")
def cluster_of_a_strict_redis():
    """Its replicas may be 16 MB behind; Redis' default is 256."""
    limit = ["--client-output-buffer-limit", "replica 16mb 0 0"]
    with Cluster(nodes=3, redis_args=limit, settings=PATIENT) as started:
        yield started


@pytest.mark.parametrize("position", POSITIONS)
def test_what_the_head_s_redis_would_not_replicate_is_refused(strict, position):
    refuses_what_is_too_large(strict, position, 16 * MB)


def test_large_values_of_many_clients_at_once(strict):
    """Each would do, all together would not: they wait for each other."""
    nodes, value = strict.wait_members(), b"v" * (10 * MB)
    answers, epoch = [], configuration(strict)["epoch"]

    def write(number):
        with Wire(nodes[number % 3].clients, timeout=60) as wire:
            for command in (encode("SET", f"large:{number}", value),
                            encode("MULTI") + encode("SET", f"large:{number}", value)
                            + encode("EXEC"), encode("DEL", f"large:{number}")):
                wire.send(command)
                answers.append(b"".join(wire.replies(command.count(b"\r\n$4\r\nEXEC") * 2 + 1)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [b"+OK\r\n", b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", b":1\r\n"]
    assert sorted(answers) == sorted(done * 9)
    assert configuration(strict)["epoch"] == epoch


@heavy
def test_the_default_limit_of_redis(cluster):
    refuses_what_is_too_large(cluster, "tail", 256 * MB)


def through_the_chain(cluster, size):
    value = os.urandom(1 << 16) * (size >> 16)
    proxies = [node.proxy for node in cluster.nodes]
    epoch = configuration(cluster)["epoch"]
    with Peak(proxies) as peak:
        for position in POSITIONS:
            with Wire(cluster.at(position).clients, timeout=120) as wire:
                begun = time.monotonic()
                assert wire.call("SET", position, value) == b"+OK\r\n"
                print(f"{size >> 20} MB at the {position}: {time.monotonic() - begun:.1f} s")
            for node in cluster.nodes:
                client = node.redis_client(socket_timeout=120)
                assert client.strlen(position) == size
                assert client.get(position) == value
                client.close()
            cluster.head().redis_client().delete(position)
    # The command (or reply) on its way in and out, and the log, which ends with the next one.
    assert max(peak.bytes.values()) < IDLE_BYTES + 4 * size
    assert configuration(cluster)["epoch"] == epoch


@heavy
@pytest.mark.parametrize("size", [300, 512])
def test_larger_values_where_the_database_is_told_to_replicate_them(size):
    with Cluster(nodes=3, redis_args=RAISED, settings=PATIENT) as cluster:
        through_the_chain(cluster, size * MB)
        with Wire(cluster.tail().clients) as wire:
            wire.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (512 * MB + 1))
            assert wire.rest() == b"-ERR Protocol error: invalid bulk length\r\n"


def test_what_the_database_itself_does_not_take(cluster):
    """It would close the connection that all clients share; so it does not get it."""
    for node in cluster.nodes:
        node.direct_client().config_set("proto-max-bulk-len", 2 * MB)
    try:
        time.sleep(1.5)  # the proxies look each second
        with unmoved(cluster):
            for node in cluster.nodes:
                with Wire(node.clients) as wire:
                    assert wire.call("SET", "k", b"x" * (2 * MB)) == b"+OK\r\n"
                    assert b"proto-max-bulk-len" in wire.call("SET", "k", b"x" * (2 * MB + 1))
                    assert wire.call("STRLEN", "k") == b":%d\r\n" % (2 * MB)
    finally:
        for node in cluster.nodes:
            node.direct_client().config_set("proto-max-bulk-len", 512 * MB)
        time.sleep(1.5)


def test_one_unfinished_command_is_bounded():
    with Cluster(nodes=1, settings={"chain.limits.command_bytes_max": "1mb"}) as small:
        with Wire(small.head().clients) as wire:
            wire.send(b"*1000000\r\n$3\r\nDEL\r\n" + b"$65536\r\n" + b"k" * 65536 + b"\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    wire.send(b"$65536\r\n" + b"k" * 65536 + b"\r\n")
            assert wire.rest().startswith(b"-ERR Protocol error: too big command, more than 1048576")


# --- long pipelines ---


@pytest.mark.parametrize("position", POSITIONS)
def test_a_pipeline_of_a_hundred_thousand_commands(cluster, position):
    """Reads, writes, and both: replies in order, memory bounded."""
    node, count = cluster.at(position), 100000
    for kind in ("writes", "reads", "both"):
        cluster.head().redis_client().set("counter", 0)
        commands = {"writes": encode("INCR", "counter"), "reads": encode("GET", "counter"),
                    "both": encode("INCR", "counter") + encode("GET", "counter")}[kind]
        with Peak([n.proxy for n in cluster.nodes]) as peak, Wire(node.clients, 60) as wire:
            sender = threading.Thread(target=wire.send, args=(commands * count,))
            sender.start()
            got = receive(wire.socket, count * (2 if kind == "both" else 1))
            sender.join()
        expected = {"writes": (b":%d" % n for n in range(1, count + 1)),
                    "reads": (b"0" for _ in range(count)),
                    "both": (part for n in range(1, count + 1) for part in (b":%d" % n, b"%d" % n))}
        assert got == list(expected[kind])
        assert max(peak.bytes.values()) < IDLE_BYTES + 100 * MB


def receive(connection, count):
    """So many replies, integers and bulks, without the bulks' lengths."""
    replies, rest = [], b""
    while len(replies) < count:
        piece = connection.recv(1 << 20)
        assert piece
        lines = (rest + piece).split(b"\r\n")
        rest = lines.pop()
        replies += [line for line in lines if not line.startswith(b"$")]
    return replies


# --- slow readers ---

SMALL = {"chain.limits.client_output_bytes_max": "4mb", **PATIENT}


def test_slow_readers_subscribers_and_monitors():
    """A reader is held up, a subscriber or a monitor that does not read is disconnected; and others
    notice nothing."""
    with Cluster(nodes=3, settings=SMALL) as cluster:
        for node in (cluster.head(), cluster.tail()):
            client, publisher = node.redis_client(), cluster.head().redis_client()
            client.set("large", b"x" * MB)
            with Peak([node.proxy]) as peak, Witness(cluster), contextlib.ExitStack() as stack:
                reader, subscriber, monitor, quick = (
                    stack.enter_context(Wire(node.clients, 30)) for _ in range(4))
                for wire in (subscriber, quick):
                    wire.send(encode("SUBSCRIBE", "channel"))
                    wire.reply()
                assert monitor.call("MONITOR") == b"+OK\r\n"
                reader.send(encode("GET", "large") * 100)
                for number in range(200):
                    publisher.publish("channel", b"%06d" % number + b"m" * 100000)
                    assert b"%06d" % number in quick.reply()
                    client.set("seen by the monitor", b"m" * 100000)

                def flags():
                    return sorted(c["flags"] for c in client.client_list() if c["flags"] != "N")

                wait_until(lambda c=flags: c() == ["P"], 10,
                           lambda c=flags: f"both slow ones are disconnected: {c()}")
                assert len(reader.replies(100)) == 100
            assert max(peak.bytes.values()) < IDLE_BYTES + 100 * MB


# --- resources that run out ---


def limited(node, descriptors):
    node.proxy.argv = ["prlimit", f"--nofile={descriptors}:{descriptors}"] + node.proxy.argv


@pytest.mark.parametrize("position", ["head", "tail"])
def test_a_proxy_without_file_descriptors(position):
    """Clients get an error; what the chain needs is kept: links, the database, the coordinators."""
    cluster = Cluster(nodes=3, settings=PATIENT)
    for node in cluster.nodes:
        limited(node, 200)
    with cluster:
        node = cluster.at(position)
        epoch = configuration(cluster)["epoch"]
        with Witness(cluster), contextlib.ExitStack() as stack:
            wires = []
            for _ in range(400):
                with contextlib.suppress(ConnectionError):
                    wires.append(stack.enter_context(Wire(node.clients, 5)))
            served = told = dropped = 0
            for wire in wires:
                try:
                    answer = wire.call("PING")
                    served += answer == b"+PONG\r\n"
                    told += answer.startswith(b"-ERR max number of clients reached")
                except ConnectionError:
                    dropped += 1
            print(f"{served} served, {told} told, {dropped} closed")
            assert served > 100 and served + told + dropped == len(wires)
            # Its links may break and come back.
            node.direct_client().execute_command("CLIENT", "KILL", "TYPE",
                                                 "replica" if position == "head" else "master")
        cluster.wait_whole()
        assert configuration(cluster)["epoch"] == epoch
        assert node.redis_client().set("still", "works")


def connect_and_go(address, count):
    for turn in range(count):
        with socket.create_connection(address, 10) as connection:
            if turn % 2 == 1:
                connection.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nha")
            # A reset: thousands of ports that wait for late packets are not what is tested.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def connects_a_second(address, count):
    """redis-benchmark opens a connection for each of its commands."""
    host, port = address.rsplit(":", 1)
    done = subprocess.run(["redis-benchmark", "-h", host, "-p", port, "-k", "0", "-c", "50",
                           "-n", str(count), "-t", "ping_mbulk", "--csv"],
                          capture_output=True, text=True, timeout=120, check=True)
    name, rate = done.stdout.splitlines()[-1].split(",")[:2]
    assert name == '"PING_MBULK"', (done.stdout, done.stderr)
    return float(rate.strip('"'))


def test_ten_thousand_connects_a_second(cluster):
    """Connections come and go as fast as can be: some without a word, some after half a command,
    some after an answer."""
    node, count, workers = cluster.tail(), 3000, 2
    host, port = node.clients.rsplit(":", 1)
    with unmoved(cluster), Peak([node.proxy]) as peak:
        processes = [multiprocessing.Process(target=connect_and_go, args=((host, int(port)), count))
                     for _ in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        print(f"{connects_a_second(node.clients, 50000):.0f} connections a second")
        if node.redis:
            print(f"to its Redis {connects_a_second(node.backend, 50000):.0f}")
    assert [process.exitcode for process in processes] == [0] * workers
    # The shared proxy has served the tests before this one as well.
    assert max(peak.bytes.values()) < 3 * IDLE_BYTES


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=heavy)])
def test_a_database_that_stands_still(seconds):
    """The tail's Redis is stopped while writers push: they slow down, and everything recovers.

    After about 5 s it is taken for lost; a write that waited for longer than write_timeout until
    then has an unknown outcome."""
    settings = {"chain.limits.log_bytes_max": "8mb", "chain.limits.backlog_bytes": "1mb",
                "chain.limits.pending_bytes_max": "8mb"}
    with Cluster(nodes=3, settings=settings) as cluster:
        proxies = [node.proxy for node in cluster.nodes]
        tail = cluster.tail()
        with Peak(proxies) as peak, Pusher([cluster.head()], 10, 20000,
                                            may_be_unknown=seconds > 5) as pusher:
            wait_until(lambda: pusher.answered > 500, 20, "writes flow")
            tail.redis.pause()
            time.sleep(seconds)
            tail.redis.resume()
            cluster.wait_whole(timeout=60)
            done = pusher.answered
            wait_until(lambda: pusher.answered > done + 500, 30, "writes flow again")
        assert max(peak.bytes.values()) < IDLE_BYTES + 100 * MB
        cluster.wait_position()
