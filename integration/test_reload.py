"""The configuration file changes while everything runs: SIGHUP, and what comes of it."""

import json
import re
import signal
import socket

import pytest
import redis

from cluster import Cluster
from processes import wait_until
from workload import Load

USERS = [("default", "open"), ("app", "first"),
         ("reader", "read", {"access": "read-only", "channels": ["news", "sport"]})]


@pytest.fixture(name="cluster", scope="module")
def fixture_cluster():
    with Cluster(nodes=3, spares=1, users=USERS, settings={"chain.replicas": "3"}) as started:
        yield started


@pytest.fixture(name="file")
def fixture_file(cluster):
    """The TOML, put back and taken over again after each test."""
    before = cluster.config.read_text(encoding="utf-8")
    yield File(cluster)
    cluster.config.write_text(before, encoding="utf-8")
    hang_up(cluster)


class File:
    def __init__(self, cluster):
        self._cluster = cluster

    def replace(self, pattern, text):
        path = self._cluster.config
        changed, count = re.subn(pattern, text, path.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert count == 1, f"{count} times {pattern}"
        path.write_text(changed, encoding="utf-8")

    def set(self, table, key, value):
        """Within the first table of that header."""
        path = self._cluster.config
        head, found, rest = path.read_text(encoding="utf-8").partition(table + "\n")
        own, *others = re.split(r"(?=^\[)", rest, maxsplit=1, flags=re.M)
        own = re.sub(rf"^{key} = .*\n", "", own, flags=re.M)
        path.write_text(f"{head}{found}{key} = {value}\n{own}{''.join(others)}", encoding="utf-8")


def log_lines(process, event):
    with open(process.log, encoding="utf-8") as log:
        return [line for line in log if f"event={event}" in line or f'"event":"{event}' in line]


def hang_up(cluster, *processes):
    """Tells them (default: all of Catena's that run) and returns what each said of it."""
    told = [p for p in processes or [n.proxy for n in cluster.nodes] + cluster.coordinators
            if p.running()]
    before = [len(log_lines(process, "reload")) for process in told]
    for process in told:
        process.signal(signal.SIGHUP)
    answers = []
    for process, count in zip(told, before):
        wait_until(lambda p=process, c=count: len(log_lines(p, "reload")) > c, 10,
                   f"{process.name} reads its file again")
        answers.append(log_lines(process, "reload")[-1])
    return answers


def client(node, user=None, password="open", **options):
    made = node.redis_client(username=user, password=password, **options)
    made.ping()
    return made


def connected(made):
    """One connection of it, which is not made anew behind the test's back."""
    return made.connection_pool.get_connection("PING")


def call(connection, *arguments):
    connection.send_command(*arguments)
    return connection.read_response()


def is_closed(connection):
    try:
        call(connection, "PING")
        return False
    except redis.ConnectionError:
        return True


def test_what_may_change_changes_and_the_rest_says_that_it_needs_a_restart(cluster, file):
    node = cluster.nodes[1]
    standing = connected(client(node))
    file.set("[chain.limits]", "clients_max", "2")
    file.set("[[chain]]", "consistency", '"sequential"')
    file.set("[coordinator]", "leader_ttl", '"7s"')
    file.set("[cluster]", "log_level", '"debug"')
    answers = hang_up(cluster)
    assert len(answers) == 5
    for answer in answers:
        assert "chain.main.consistency: linearizable -> sequential" in answer
        assert "chain.main.limits.clients_max: 10000 -> 2" in answer
    restart = log_lines(cluster.coordinators[0], "restart_needed")[-1]
    assert "key=coordinator.leader_ttl running=2s file=7s" in restart
    assert b"catena_consistency:sequential" in call(standing, "INFO", "catena")
    client(node).close()
    extra = [node.redis_client(password="open") for _ in range(3)]
    with pytest.raises(redis.ConnectionError, match="max number of clients"):
        for each in extra:
            each.ping()
    host, port = node.clients.split(":")
    for _ in range(200):
        socket.create_connection((host, int(port))).close()
    left_out = wait_until(lambda: log_lines(node.proxy, "left_out"), 5, "a count of what was not told")
    assert re.search(r"kind=client_refused times=[1-9]", left_out[-1])
    assert 50 <= len(log_lines(node.proxy, "client_refused")) < 150
    assert not is_closed(standing)


def test_log_as_json(cluster, file):
    file.set("[cluster]", "log_format", '"json"')
    assert "cluster.log_format: text -> json" in hang_up(cluster, cluster.nodes[0].proxy)[0]
    answer = json.loads(hang_up(cluster, cluster.nodes[0].proxy)[0])
    assert answer["event"] == "reloaded" and answer["who"] == "n1" and answer["level"] == "info"
    assert answer["changed"] == "nothing"


def test_a_file_with_an_error_changes_nothing(cluster, file):
    file.set("[[chain]]", "write_timeout", '"1ms"')
    file.set("[chain.limits]", "clients_max", "1")
    for answer in hang_up(cluster):
        assert "event=reload_refused" in answer
        assert re.search(r"catena\.toml:\d+:\d+: write_timeout is 1ms; allowed: 10ms or more", answer)
    both = [client(cluster.nodes[0]) for _ in range(2)]
    assert all(each.ping() for each in both)


def test_users_change_as_in_redis(cluster, file):
    node = cluster.nodes[0]
    app = connected(client(node, "app", "first"))
    reader = connected(client(node, "reader", "read"))
    subscriber = connected(client(node, "reader", "read"))
    default = connected(client(node))
    call(subscriber, "SUBSCRIBE", "sport")
    blocked = connected(client(node, "app", "first"))
    blocked.send_command("BLPOP", "nothing", "0")

    file.replace('"first"', '"second"')
    file.replace(r'channels = \["news", "sport"\]', 'channels = ["news"]\nkeys = ["public:*"]')
    hang_up(cluster)
    assert call(app, "SET", "k", "v") == b"OK", "a changed password leaves connections alone"
    with pytest.raises(redis.ResponseError, match="WRONGPASS"):
        client(node, "app", "first")
    client(node, "app", "second")
    with pytest.raises(redis.exceptions.NoPermissionError):
        call(reader, "GET", "k")
    assert call(reader, "GET", "public:k") is None
    assert is_closed(subscriber), "it listens to what it may no longer hear"

    file.replace(r'\[\[chain.user\]\]\nname = "app"\npassword = "second"\n', "")
    hang_up(cluster)
    assert is_closed(app) and is_closed(blocked)
    assert call(default, "GET", "k") == b"v"
    with pytest.raises(redis.ResponseError, match="WRONGPASS"):
        client(node, "app", "second")


def test_lease_raised_and_lowered_under_load(cluster, file):
    def recorded():
        return cluster.chain_status()["record"]["lease"]

    file.replace(r"\[\[chain.user\]\].*?(?=\[\[chain.node\]\])", "")
    hang_up(cluster)
    with Load(cluster, nodes=cluster.nodes[:3]) as load:
        load.wait_progress()
        for lease, seconds in (("3s", 3), ("600ms", 0.6)):
            file.set("[coordinator]", "lease", f'"{lease}"')
            hang_up(cluster)
            wait_until(lambda s=seconds: granted(cluster) <= s * 1e9 < granted(cluster) * 2, 10,
                       f"leases of {lease}")
            load.wait_progress()
            assert recorded() >= seconds * 1e9
        assert not load.failures()
    load.check(cluster.nodes[:3])


def granted(cluster):
    """The longest lease that is out right now, in nanoseconds."""
    return max(node["lease_out"] for node in cluster.chain_status()["nodes"])


def test_a_spare_is_taken_out_by_the_file(cluster, file):
    spare = cluster.node("n4").proxy
    file.replace(r'\[\[chain.node\]\]\nid = "n4"\n.*?(?=\[\[chain.node\]\]|\Z)', "")
    hang_up(cluster, *cluster.coordinators)
    assert [node["report"]["node"] for node in cluster.chain_status()["nodes"]] == ["n1", "n2", "n3"]
    wait_until(lambda: "not in the coordinator's TOML" in log_lines(spare, "notice")[-1], 10,
               "the spare is told")


def test_more_replicas_by_the_file(cluster, file):
    client(cluster.nodes[0]).set("kept", "1")
    file.set("[[chain]]", "replicas", "4")
    hang_up(cluster, *cluster.coordinators)
    cluster.wait_whole(members=4)
    assert client(cluster.node("n4")).get("kept") == b"1"


def test_a_member_leaves_by_the_file(cluster, file):
    """The head, under load, without a failed request elsewhere; it stands by when it is back."""
    file.replace(r"\[\[chain.user\]\].*?(?=\[\[chain.node\]\])", "")
    hang_up(cluster)
    before = cluster.config.read_text(encoding="utf-8")
    out = cluster.head()
    others = [node for node in cluster.members() if node is not out]
    with Load(cluster, nodes=others) as load:
        load.wait_progress()
        file.replace(rf'\[\[chain.node\]\]\nid = "{out.id}"\n.*?(?=\[\[chain.node\]\]|\Z)', "")
        hang_up(cluster, *cluster.coordinators)
        cluster.wait_whole(members=3, without=[out.id])
        load.wait_progress()
        assert not load.failures()
    load.check(others)
    assert "no node" in hang_up(cluster, out.proxy)[0]
    changes = log_lines(cluster.coordinators[0], "configuration")[-2:]
    assert any(f"removed '{out.id}'" in change for change in changes)
    assert "TOML has it no longer" in log_lines(out.proxy, "phase phase=resigning")[-1]
    cluster.config.write_text(before, encoding="utf-8")
    hang_up(cluster, *cluster.coordinators)
    wait_until(lambda: "stands by" in log_lines(out.proxy, "notice")[-1], 10, "it stands by")
