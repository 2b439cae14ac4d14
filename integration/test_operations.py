"""An operator at work while clients are: drain, reorder, replace, verify, events, config."""
# pylint: disable=redefined-outer-name

import json
import subprocess
import threading
import time

import pytest

from cluster import Cluster, binary_directory
from kinds import on_rocksdb
from processes import wait_until
from workload import OK, READ, WRITE, Connection, Load

SPARE = "n4"
POSITIONS = {"head": 0, "middle": 1, "tail": 2}


def catenactl(cluster, *arguments, expected=0):
    done = subprocess.run([str(binary_directory() / "catenactl"), "--config", str(cluster.config),
                           *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expected, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3, spares=1) as running:
        yield running


def order_of(cluster):
    return [node.id for node in cluster.members()]


@pytest.fixture
def whole(cluster):
    """The chain n1, n2, n3 with n4 kept out, so that nobody takes a drained member's place."""
    catenactl(cluster, "drain", SPARE, "--no-wait")
    for node in ("n1", "n2", "n3"):
        catenactl(cluster, "undrain", node)
    cluster.wait_whole(members=3, without=[SPARE])
    return cluster


class States:
    """At each node: a client that waits in BLPOP, and one that makes transactions. Each value that is
    pushed must come to the one that waits, once."""

    def __init__(self, cluster):
        self._stopping = threading.Event()
        self.problems, self.rounds = [], {node.id: 0 for node in cluster.nodes}
        self._threads = [threading.Thread(target=run, args=(node,), daemon=True)
                         for node in cluster.nodes
                         for run in ((self._transact,) if on_rocksdb() else
                                     (self._wait, self._transact))]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join(20)

    def _wait(self, node):
        waiting, pushing = Connection(node.clients), Connection(node.clients)
        number = 0
        while not self._stopping.is_set():
            number += 1
            try:
                waiting.send("BLPOP", f"queue:{node.id}", 0)
                self._stopping.wait(0.15)
                pushing.call("RPUSH", f"queue:{node.id}", number)
                answer = waiting.receive()
                if answer != [f"queue:{node.id}".encode(), b"%d" % number]:
                    self.problems.append(f"{node.id}: BLPOP {number} gave {answer}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(f"{node.id}: BLPOP {number}: {error}")
                return

    def _transact(self, node):
        connection = Connection(node.clients)
        key = f"counter:{node.id}"
        while not self._stopping.is_set():
            try:
                for command in (("MULTI",), ("INCR", key), ("INCR", key)):
                    connection.call(*command)
                    self._stopping.wait(0.002)
                self.rounds[node.id] += 1
                values = connection.call("EXEC")
                if values != [2 * self.rounds[node.id] - 1, 2 * self.rounds[node.id]]:
                    self.problems.append(f"{node.id}: EXEC gave {values}")
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(f"{node.id}: transaction: {error}")
                return


def nobody_failed(load, states, cluster, since=0.0):
    pauses = {kind: load.longest_pause(cluster.nodes, kind, since) for kind in (WRITE, READ)}
    failed = [o for o in load.failures(since=since) if o.outcome != OK]
    assert not failed, failed[:5]
    assert not states.problems, states.problems[:5]
    return f"longest pause: writes {pauses[WRITE]:.3f} s, reads {pauses[READ]:.3f} s"


@pytest.mark.parametrize("position", POSITIONS)
def test_drain_fails_no_request_of_any_client(whole, position):
    leaver = whole.members()[POSITIONS[position]]
    with Load(whole, depth=4) as load, States(whole) as states:
        load.wait_progress(count=10)
        told = catenactl(whole, "drain", leaver.id)
        assert f"{leaver.id} is out of chain main" in told
        load.wait_progress(count=10)  # its proxy's clients too
        assert leaver.id not in order_of(whole)
        catenactl(whole, "undrain", leaver.id)
        whole.wait_whole(members=3)
        load.wait_progress(count=10)
    print(f"\ndrain of the {position}: {nobody_failed(load, states, whole)}; it says: {told.strip()}")
    whole.wait_position()
    load.check(whole.members())


@pytest.mark.parametrize("position", POSITIONS)
def test_reorder_fails_no_request_of_any_client(whole, position):
    before = order_of(whole)
    mover = before[POSITIONS[position]]
    wanted = [node for node in before if node != mover]
    wanted.insert(1 if position == "tail" else 2, mover)
    with Load(whole, depth=4) as load, States(whole) as states:
        load.wait_progress(count=10)
        told = catenactl(whole, "reorder", "main", ",".join(wanted))
        assert order_of(whole) == wanted
        load.wait_progress(count=10)
    print(f"\nreorder, the {position}: {nobody_failed(load, states, whole)}; it says: "
          f"{told.strip().splitlines()[0]}")
    whole.wait_position()
    load.check(whole.members())
    assert [d["node"] for d in whole.chain_status()["record"]["drains"]] == [SPARE]


def test_a_spare_replaces_a_member(whole):
    catenactl(whole, "undrain", SPARE)
    with Load(whole) as load, States(whole) as states:
        load.wait_progress(count=10)
        old = whole.members()[0].id
        told = catenactl(whole, "replace", old, SPARE)
        assert f"{SPARE} has taken the place of {old}" in told
        assert old not in order_of(whole) and SPARE == order_of(whole)[-1]
        load.wait_progress(count=10)
    print(f"\nreplace the head: {nobody_failed(load, states, whole)}")
    load.check(whole.members())
    catenactl(whole, "undrain", old)
    catenactl(whole, "replace", SPARE, old)
    refused = catenactl(whole, "replace", old, SPARE, expected=1)
    assert f"'{SPARE}' is drained" in refused


def test_what_would_leave_too_few_is_refused(whole):
    members = order_of(whole)
    assert "no node \"n9\"" in catenactl(whole, "drain", "n9", expected=2)
    assert "the members are" in catenactl(whole, "reorder", "main", "n1,n2", expected=2)
    catenactl(whole, "drain", members[2])
    refused = catenactl(whole, "drain", members[0], expected=1)
    assert "only one synced member would stay" in refused
    catenactl(whole, "drain", members[0], "--force")
    assert order_of(whole) == [members[1]]
    refused = catenactl(whole, "drain", members[1], "--force", expected=1)
    assert "no synced member would stay" in refused
    # A drained node forwards, stays out when it is restarted, and may come back.
    drained = whole.node(members[0])
    assert drained.redis_client().set("drained", "forwards")
    drained.proxy.restart()
    wait_until(lambda: "drained by an operator" in catenactl(whole, "status"), 10,
               "the restarted proxy is told that it is drained")
    assert order_of(whole) == [members[1]]


def test_events_tell_why(whole):
    lines = [json.loads(line) for line in catenactl(whole, "events", "--json").splitlines()]
    assert 0 < len(lines) <= 100
    assert lines[-1]["members"] == order_of(whole)
    reasons = " ".join(line["reason"] for line in lines)
    assert "joined" in reasons and "an operator drains it" in reasons
    epochs = [line["epoch"] for line in lines]
    assert epochs == sorted(epochs)
    whole.coordinators[0].restart()
    whole.wait_whole(members=3, without=[SPARE])
    after = [json.loads(line) for line in catenactl(whole, "events", "--json").splitlines()]
    assert [line for line in after if line in lines] == lines[-len(after):]
    with subprocess.Popen([str(binary_directory() / "catenactl"), "--config", str(whole.config),
                           "events", "--follow"], stdout=subprocess.PIPE, text=True) as follow:
        try:
            for _ in after:
                follow.stdout.readline()
            catenactl(whole, "drain", order_of(whole)[0])
            assert "is to leave" in follow.stdout.readline()
            assert "removed" in follow.stdout.readline()
        finally:
            follow.kill()


def test_config_tells_values_and_where_they_are_from(whole):
    text = catenactl(whole, "config")
    secret = (whole.directory / "secret").read_text(encoding="ascii").strip()
    assert secret not in text
    settings = {(s["table"], s["key"]): s
                for s in json.loads(catenactl(whole, "config", "--json"))}
    assert settings[("coordinator", "lease")] == {
        "table": "coordinator", "key": "lease", "value": "1s", "line": None}
    written = settings[("chain main node n2", "clients")]
    line = whole.config.read_text(encoding="utf-8").splitlines()[written["line"] - 1]
    assert line.startswith("clients") and written["value"] in line
    assert f"clients = {written['value']}   (line {written['line']})" in text
    assert settings[("tls", "clients")]["value"] == "off"


def complete(cluster, *words):
    """What bash offers for the last word."""
    script = (f'source <("{binary_directory()}/catenactl" completions bash); '
              'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _catenactl; echo "${COMPREPLY[*]}"')
    program = str(binary_directory() / "catenactl")
    done = subprocess.run(["bash", "-c", script, "bash", program, "--config", str(cluster.config),
                           *words], capture_output=True, text=True, timeout=20, check=True)
    assert not done.stderr, done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_chains_and_nodes(whole):
    assert "drain" in complete(whole, "dr") and "undrain" not in complete(whole, "dr")
    assert complete(whole, "drain", "n") == ["n1", "n2", "n3", "n4"]
    assert complete(whole, "drain", "--fo") == ["--force"]
    assert complete(whole, "status", "--chain", "") == ["main"]
    assert complete(whole, "choose", "") == ["main"]
    assert complete(whole, "choose", "main", "n2") == ["n2"]


@pytest.mark.parametrize("command", ["status", "check", "events", "verify", "config", "completions",
                                     "drain", "undrain", "replace", "reorder", "choose"])
def test_every_command_has_an_example(cluster, command):
    text = catenactl(cluster, command, "--help")
    assert "Example:" in text and "catenactl" in text


# --- verify ---


def test_verify_says_that_all_is_equal_under_load(whole):
    with Load(whole, depth=4) as load, States(whole) as states:
        load.wait_progress(count=10)
        told = catenactl(whole, "verify", "--effort", "100")
        load.wait_progress(count=10)
    assert ", 0 differ." in told
    nobody_failed(load, states, whole)
    assert "no chain nothing" in catenactl(whole, "verify", "--chain", "nothing", expected=2)


KEYS = 1_000_000


@pytest.fixture(scope="module")
def million():
    """Three members with a million keys, which the first had before the chain began."""
    with_debug = ["--enable-debug-command", "yes"]
    large = Cluster(nodes=3, redis_args=with_debug)
    try:
        for process in large.etcds + [node.redis for node in large.nodes]:
            process.start()
        first = large.nodes[0].direct_client()
        wait_until(lambda: answers(first), 10, "the first database answers")
        first.execute_command("DEBUG", "POPULATE", KEYS, "key", 16)
        fill(first)
        for process in large.coordinators + [node.proxy for node in large.nodes]:
            process.start()
        large.wait_whole(timeout=60)
        yield large
    finally:
        large.stop()


def answers(client):
    try:
        return client.ping()
    except OSError:
        return False
    except Exception as error:  # pylint: disable=broad-except
        assert "connect" in str(error).lower() or "Connection" in type(error).__name__, error
        return False


def fill(redis):
    """Every type, small and large: what is digested whole, what is not, and what each server keeps
    in an order of its own."""
    for size in ("small", "large"):
        count = 5 if size == "small" else 20_000
        members = [f"member {i} of many" for i in range(count)]
        redis.set(f"{size}:string", "x" * count * 20)
        redis.rpush(f"{size}:list", *members)
        redis.sadd(f"{size}:set", *members)
        redis.hset(f"{size}:hash", mapping={member: "v" for member in members})
        redis.zadd(f"{size}:zset", {member: i for i, member in enumerate(members)})
        for i in range(count // 20 + 1):
            redis.xadd(f"{size}:stream", {"n": i, "pad": "y" * 100}, id=f"1-{i + 1}")
    redis.sadd("table:set", *[f"m{i}" for i in range(700)])
    redis.hset("table:hash", mapping={f"f{i}": i for i in range(700)})
    redis.set("with:deadline", "v", ex=3600)
    redis.execute_command("SELECT", 3)
    redis.set("other:database", "v")
    redis.execute_command("SELECT", 0)


def spoil(node, *commands):
    """Changes this node's database and nothing else, as no client can."""
    redis = node.direct_client(single_connection_client=True)
    for number, command in commands:
        redis.execute_command("SELECT", number)
        if redis.info("replication")["role"] == "master":
            call = ", ".join(f"'{word}'" for word in command)
            redis.eval(f"redis.set_repl(redis.REPL_NONE) return redis.call({call})", 0)
            continue
        redis.config_set("replica-read-only", "no")
        redis.execute_command(*command)
        redis.config_set("replica-read-only", "yes")
    redis.close()


@pytest.mark.redis_only("writes past the proxy")
def test_verify_finds_what_differs_among_a_million_keys(million):
    head, middle, tail = million.members()
    spoil(head, (0, ("SET", "key:700001", "spoilt")), (0, ("SREM", "table:set", "m7")),
          (0, ("SET", "extra:head", "v")))
    spoil(middle, (0, ("SET", "key:700002", "spoilt")), (0, ("DEL", "key:700003")),
          (0, ("HSET", "large:hash", "member 7 of many", "w")), (3, ("SET", "other:database", "w")))
    spoil(tail, (0, ("SETRANGE", "large:string", "200000", "y")), (0, ("PERSIST", "with:deadline")),
          (0, ("SET", "extra:tail", "v")), (0, ("DEL", "small:zset")),
          (0, ("SADD", "small:zset", "a")), (5, ("SET", "new:database", "v")))
    with States(million) as states:
        started = time.monotonic()
        done = subprocess.run([str(binary_directory() / "catenactl"), "--config",
                               str(million.config), "verify", "--effort", "100", "--json"],
                              capture_output=True, text=True, timeout=240, check=False)
        took = time.monotonic() - started
    print(f"\na million keys at three nodes are compared in {took:.1f} s")
    assert done.returncode == 4, done.stdout + done.stderr
    assert not states.problems, states.problems[:5]
    report = json.loads(done.stdout)
    assert report["keys"] > KEYS and report["unsettled"] == 0
    found = {(d["database"], d["key"]): d["values"] for d in report["differences"]}
    wanted = {(0, "key:700001"): head, (0, "table:set"): head, (0, "extra:head"): head,
              (0, "key:700002"): middle, (0, "key:700003"): middle, (0, "large:hash"): middle,
              (3, "other:database"): middle, (0, "large:string"): tail,
              (0, "with:deadline"): tail, (0, "extra:tail"): tail, (0, "small:zset"): tail,
              (5, "new:database"): tail}
    assert set(found) == set(wanted)
    for key, node in wanted.items():
        values = found[key]
        others = [value for name, value in values.items() if name != node.id]
        assert len(set(others)) == 1 and values[node.id] != others[0], (key, values)
    assert found[(0, "key:700003")][middle.id] == "missing"
    assert found[(0, "small:zset")][tail.id].startswith("set")


@pytest.mark.redis_only("writes past the proxy")
def test_verify_costs_running_traffic_less_than_a_tenth(million):
    """It keeps no node busy for a tenth of the time, so that nine tenths are left to clients.

    Processor time tells this on a busy machine too, where rates of requests differ by more than
    what is to be measured.
    """
    processes = [process for node in million.nodes for process in (node.proxy, node.redis)]
    with subprocess.Popen([str(binary_directory() / "catenactl"), "--config", str(million.config),
                           "verify"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as verify:
        try:
            idle = sum(process.cpu_seconds() for process in processes)
            wait_until(lambda: sum(process.cpu_seconds() for process in processes) > idle + 0.05,
                       20, "verify is at work")
            before, began = [process.cpu_seconds() for process in processes], time.monotonic()
            time.sleep(3)
            used = [process.cpu_seconds() - then for process, then in zip(processes, before)]
            took = time.monotonic() - began
            assert verify.poll() is None
        finally:
            verify.kill()
    busy = {process.name: share / took for process, share in zip(processes, used)}
    print("\nbusy while verify runs: " + ", ".join(f"{n} {s:.1%}" for n, s in busy.items()))
    assert 0 < max(busy.values()) < 0.1
