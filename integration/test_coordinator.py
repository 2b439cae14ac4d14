"""Coordinators and etcd as real processes; nodes played by the test, which speaks the heartbeat protocol.

So every order of events can be produced exactly: what a node reports, when it falls silent, when
etcd stops. The wire protocol is described in coordinator/records.h and proxy/auth/proof.h.
"""

import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from cluster import binary_directory, free_base_port
from processes import Process, stop_all, wait_until

SECRET = b"a secret of the test"
LEASE = 1.0


class Closed(Exception):
    """The coordinator closed the connection, or refused."""


class Connection:
    """A proven connection to a coordinator."""

    def __init__(self, address, secret=SECRET, cluster="trial"):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.buffer = b""
        self._prove(secret, cluster)

    def _prove(self, secret, cluster):
        nonce = os.urandom(16).hex()
        self.send("CATENA.AUTH", "1", cluster, nonce)
        version, theirs, proof = self.receive()

        def expected(role):
            text = f"{role}|1|{version}|{cluster}|{nonce}|{theirs}"
            return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()

        if proof != expected("listener"):
            raise Closed("the coordinator does not know the secret")
        self.send("CATENA.PROVE", expected("dialler"))
        assert self.receive() == "OK"

    def send(self, *arguments):
        out = b"*%d\r\n" % len(arguments)
        for argument in arguments:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            out += b"$%d\r\n%s\r\n" % (len(data), data)
        self.socket.sendall(out)

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise Closed(str(error)) from error
        if not data:
            raise Closed("closed")
        self.buffer += data

    def receive(self):
        line = self._line()
        kind, rest = line[:1], line[1:].decode()
        if kind == b"+":
            return rest
        if kind == b"-":
            raise Closed(rest)
        if kind == b"$":
            while len(self.buffer) < int(rest) + 2:
                self._more()
            data, self.buffer = self.buffer[:int(rest)], self.buffer[int(rest) + 2:]
            return data.decode()
        assert kind == b"*", line
        return [self.receive() for _ in range(int(rest))]

    def close(self):
        self.socket.close()


class FakeNode:
    """A proxy's side of the heartbeat protocol. Reports what its fields say, 20 times a second."""

    _incarnations = int(time.time() * 1000)

    def __init__(self, trial, node, **backend):
        self.trial = trial
        self.node = node
        self.backend = {"kind": "redis", "healthy": True, "run_id": f"run-{node}", "version": "7.0.15",
                        "keys": 0, "from_chain": False, **backend}
        self.fields = {}
        self.connection = None
        self.lock = threading.RLock()
        self.number = 0
        self.new_incarnation()
        self.answer = None       # the newest
        self.configuration = None
        self.leases = []         # (time of sending, incarnation, length) of every grant
        self.pushes = 0
        self.pushed_at = {}      # epoch -> when it was first heard of
        self.answers = 0
        self.obey_void = True
        self.stopped = threading.Event()
        self.silent = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def new_incarnation(self, above=0):
        with self.lock:
            FakeNode._incarnations = max(FakeNode._incarnations, above) + 1
            self.incarnation = FakeNode._incarnations
            self.fields = {"phase": "candidate", "epoch": 0, "synced": False}
            self.configuration = None

    def set(self, **fields):
        with self.lock:
            self.fields.update(fields)

    def listed(self):
        return self.configuration is not None and any(
            m["id"] == self.node and m["incarnation"] == self.incarnation
            for m in self.configuration["members"])

    def members(self):
        return [m["id"] for m in self.configuration["members"]] if self.configuration else []

    def fall_silent(self):
        """As if the network were cut: the connection stays, nothing is said."""
        self.silent.set()

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self._disconnect()

    def _disconnect(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def _run(self):
        addresses = [c.address for c in self.trial.coordinators]
        turn = 0
        while not self.stopped.wait(0.05):
            if self.silent.is_set():
                continue
            try:
                if self.connection is None:
                    turn += 1
                    self.connection = Connection(addresses[turn % len(addresses)])
                    self.connection.socket.settimeout(1)
                self._beat()
            except (OSError, Closed):
                self._disconnect()

    def _beat(self):
        with self.lock:
            self.number += 1
            incarnation = self.incarnation
            report = {"cluster": "trial", "chain": "c", "node": self.node,
                      "incarnation": incarnation, "number": self.number,
                      "clients": f"{self.node}:1", "peers": f"{self.node}:2",
                      "backend": dict(self.backend), **self.fields}
        sent = time.monotonic()
        self.connection.send("CATENA.HEARTBEAT", json.dumps(report))
        while True:
            message = self.connection.receive()
            if message[0] == "NOTLEADER":
                raise Closed("not the leader")
            answer = json.loads(message[1])
            self._take(answer, incarnation)
            if message[0] == "HEARTBEAT":
                assert answer["number"] == report["number"]
                self.answers += 1
                if answer["lease"] > 0:
                    self.leases.append((sent, incarnation, answer["lease"] / 1e9))
                return
            self.pushes += 1

    def _take(self, answer, incarnation):
        with self.lock:
            if incarnation != self.incarnation:
                return
            self.answer = answer
            if answer.get("incarnation_void") and self.obey_void:
                self.new_incarnation(answer["incarnation_above"])
                return
            configuration = answer.get("configuration")
            if configuration and configuration["epoch"] > self.fields["epoch"]:
                self.configuration = configuration
                self.pushed_at.setdefault(configuration["epoch"], time.monotonic())
                self._install(configuration)
            if answer.get("join") and self.fields["phase"] == "member":
                order = answer["join"]
                self.fields["joiner_ready"] = {"node": order["node"],
                                               "incarnation": order["incarnation"],
                                               "epoch": self.fields["epoch"]}
            else:
                self.fields.pop("joiner_ready", None)

    def _install(self, configuration):
        self.fields["epoch"] = configuration["epoch"]
        if self.listed():
            head = configuration["members"][0]["id"] == self.node
            self.fields.update(phase="member", synced=True, head_ready=head)


class Trial:
    """One etcd or three, coordinators, and one chain 'c' of nodes a, b, c."""

    def __init__(self, directory, coordinators=1, etcds=1, replicas=3, recovery="operator",
                 nodes="abc"):
        self.directory = Path(directory)
        self.base_port = free_base_port()
        self.nodes = {}
        self.etcds = [self._etcd(i, etcds) for i in range(etcds)]
        (self.directory / "secret").write_bytes(SECRET + b"\n")
        self.config = self.directory / "catena.toml"
        listen = [f"127.0.0.1:{self.base_port + i}" for i in range(coordinators)]
        self.write_config(listen, replicas, recovery, nodes)
        self.coordinators = []
        for address in listen:
            process = Process(f"coordinator {address}",
                              [str(binary_directory() / "catena-coordinator"), "--config",
                               str(self.config), "--listen", address],
                              self.directory / f"coordinator-{address}.log")
            process.address = address
            self.coordinators.append(process)

    def write_config(self, listen, replicas, recovery, nodes, lease=LEASE):
        text = f"""
[cluster]
name = "trial"
secret_file = "secret"
[coordinator]
listen = {json.dumps(listen)}
etcd = {json.dumps([e.address for e in self.etcds])}
heartbeat = "100ms"
lease = "{int(lease * 1000)}ms"
[[chain]]
name = "c"
replicas = {replicas}
recovery = "{recovery}"
"""
        for i, node in enumerate(nodes):
            text += f"""
  [[chain.node]]
  id = "{node}"
  clients = "127.0.0.1:{self.base_port + 40 + i}"
  peers = "127.0.0.1:{self.base_port + 50 + i}"
  backend = "redis://127.0.0.1:{self.base_port + 60 + i}"
"""
        self.config.write_text(text)

    def _etcd(self, index, count):
        def url(kind, i):
            return f"http://127.0.0.1:{self.base_port + 20 + 2 * i + kind}"

        cluster = ",".join(f"e{i}={url(1, i)}" for i in range(count))
        process = Process(f"etcd{index}", [
            "etcd", "--name", f"e{index}", "--data-dir", str(self.directory / f"etcd{index}"),
            "--listen-client-urls", url(0, index), "--advertise-client-urls", url(0, index),
            "--listen-peer-urls", url(1, index), "--initial-advertise-peer-urls", url(1, index),
            "--initial-cluster", cluster, "--unsafe-no-fsync"],
            self.directory / f"etcd{index}.log")
        process.address = url(0, index)
        return process

    def __enter__(self):
        for process in self.etcds + self.coordinators:
            process.start()
        return self

    def __exit__(self, *_):
        for node in self.nodes.values():
            node.stopped.set()
        stop_all(self.coordinators, 3)
        for process in self.etcds:
            process.kill()

    def node(self, name, **backend):
        if name in self.nodes:
            self.nodes[name].stop()
        self.nodes[name] = FakeNode(self, name, **backend)
        return self.nodes[name]

    def wait(self, condition, what, timeout=15):
        def explain():
            logs = "".join(p.log_tail(20) for p in self.coordinators)
            states = {n.node: (n.incarnation, n.fields, n.answer) for n in self.nodes.values()}
            return f"{what}; nodes: {json.dumps(states, indent=1)}\n{logs}"

        return wait_until(condition, timeout, explain)

    def wait_members(self, names, timeout=15):
        """Waits until all of these are members of one configuration that lists them alone."""
        def whole():
            nodes = [self.nodes[name] for name in names]
            return all(n.members() == list(names) and n.listed() and n.fields["phase"] == "member"
                       for n in nodes)

        self.wait(whole, f"members {names}", timeout)
        return self.nodes[names[0]].configuration["epoch"]

    def ask(self, *command):
        """Sends a command to whichever coordinator leads."""
        for coordinator in self.coordinators:
            if not coordinator.running() or coordinator.state() == "T":
                continue
            try:
                connection = Connection(coordinator.address)
                connection.socket.settimeout(15)
                connection.send(*command)
                answer = connection.receive()
                connection.close()
                if not (isinstance(answer, list) and answer[0] == "NOTLEADER"):
                    return answer
            except OSError:
                continue
        return None

    def status(self):
        answer = self.ask("CATENA.STATUS")
        return json.loads(answer) if answer else None

    def leader(self):
        status = self.status()
        if not status:
            return None
        return next(c for c in self.coordinators if c.address == status["leader"])

    def waiting_for(self):
        status = self.status()
        return status["chains"][0]["waiting_for"] if status else ""

    def record(self):
        """What etcd holds of the chain, by etcdctl."""
        result = subprocess.run(
            ["etcdctl", "--endpoints", self.etcds[0].address, "get", "--print-value-only",
             "/catena/trial/chains/c"], env={**os.environ, "ETCDCTL_API": "3"}, check=True,
            stdout=subprocess.PIPE, timeout=10)
        return json.loads(result.stdout) if result.stdout.strip() else None


@pytest.fixture
def directory():
    with tempfile.TemporaryDirectory(prefix="catena-coordinator-") as path:
        yield path


def test_a_chain_forms_in_the_order_of_the_toml(directory):
    with Trial(directory) as trial:
        for name in "cba":
            trial.node(name)
        assert trial.wait_members("abc") == 3
        trial.wait(lambda: all(n.leases for n in trial.nodes.values()), "leases for all")
        record = trial.record()
        assert [m["id"] for m in record["configuration"]["members"]] == ["a", "b", "c"]
        assert record["lease"] == int(LEASE * 1e9)
        assert record["head_complete"] is True
        status = trial.status()
        assert status["etcd_healthy"]
        assert [n["report"]["node"] for n in status["chains"][0]["nodes"]] == ["a", "b", "c"]
        assert all(n["member"] for n in status["chains"][0]["nodes"])


def test_a_spare_stands_by_and_takes_a_lost_members_place(directory):
    with Trial(directory, replicas=2) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("ab")
        trial.wait(lambda: trial.nodes["c"].answer["notice"].startswith("stands by"), "c stands by")
        trial.nodes["b"].stop()
        trial.wait_members("ac")


def test_a_silent_head_is_removed_when_its_lease_has_run_out_and_not_before(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        head, second = trial.nodes["a"], trial.nodes["b"]
        trial.wait(lambda: head.leases, "a lease for a")
        head.fall_silent()
        trial.wait_members("bc")
        sent, _, length = head.leases[-1]
        removed = second.pushed_at[second.configuration["epoch"]]
        assert removed - sent >= length, "removed while its lease was valid"
        assert removed - sent < length + 1.0, "noticed far too late"


def test_a_crashed_head_is_replaced_at_the_end_of_its_lease(directory):
    """The broken connection is known at once; only the lease is waited for, no further heartbeat."""
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        head = trial.nodes["a"]
        trial.wait(lambda: head.leases, "a lease for a")
        head.stop()
        trial.wait_members("bc")
        sent, _, length = head.leases[-1]
        removed = min(trial.nodes[n].pushed_at[4] for n in "bc")
        assert length <= removed - sent < length + 0.4


def test_a_resigning_member_goes_at_once_and_comes_back_by_joining(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        trial.wait(lambda: trial.nodes["b"].leases, "a lease for b")
        resigned = time.monotonic()
        trial.nodes["b"].set(phase="resigning", problem="its database died")
        trial.wait(lambda: trial.nodes["a"].members() == ["a", "c"], "b is gone")
        assert trial.nodes["a"].pushed_at[4] - resigned < LEASE / 2
        # It is told that its incarnation is over, takes a new one, and joins at the tail.
        trial.wait_members("acb")


def test_a_restarted_only_member_with_its_database_unchanged_goes_on(directory):
    with Trial(directory, nodes="a", replicas=1) as trial:
        first = trial.node("a")
        trial.wait_members("a")
        trial.wait(lambda: first.leases, "a lease")
        old = first.incarnation
        restarted = time.monotonic()
        second = trial.node("a", from_chain=True, keys=5)
        trial.wait(lambda: second.listed(), "a is back")
        assert second.incarnation > old
        sent, _, length = first.leases[-1]
        assert second.pushed_at[2] >= sent + length
        assert second.pushed_at[2] - restarted < length + 1


def test_all_proxies_restart_and_the_last_head_goes_on_s13(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        trial.wait(lambda: trial.record()["head_complete"], "the head is complete")
        for name in "abc":
            trial.nodes[name].stopped.set()
        for name in "cba":
            trial.node(name, from_chain=True, keys=7)
        trial.wait_members("abc")
        assert trial.nodes["a"].configuration["epoch"] == 6
        assert "its database unchanged" not in trial.record()["reason"]


def test_a_wiped_chain_waits_for_the_operator_who_chooses(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        for name in "abc":
            trial.nodes[name].stopped.set()
        for name in "abc":
            trial.node(name, from_chain=True, keys=7, run_id=f"restarted-{name}")
        trial.wait(lambda: "catenactl choose c NODE" in trial.waiting_for(), "an operator is asked")
        assert trial.record()["configuration"]["epoch"] == 3
        with pytest.raises(Closed, match="has no node 'x'"):
            trial.ask("CATENA.CHOOSE", "c", "x")
        with pytest.raises(Closed, match="no chain 'x'"):
            trial.ask("CATENA.CHOOSE", "x", "a")
        assert trial.ask("CATENA.CHOOSE", "c", "b") == "OK"
        trial.wait_members("bac")
        assert trial.waiting_for() == ""


def test_automatic_recovery_takes_the_last_head_when_all_are_back(directory):
    with Trial(directory, recovery="automatic") as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        for name in "abc":
            trial.nodes[name].stopped.set()
        trial.node("a", from_chain=True, run_id="other")
        trial.node("b", from_chain=True, run_id="other")
        trial.wait(lambda: "waiting for all its nodes" in trial.waiting_for(), "c is waited for")
        trial.node("c", from_chain=True, run_id="other")
        trial.wait_members("abc")


def test_a_stranger_with_data_is_refused_and_told_why(directory):
    with Trial(directory) as trial:
        trial.node("a")
        trial.node("b", keys=42)
        trial.node("c")
        trial.wait_members("ac")
        trial.wait(lambda: "holds 42 keys" in trial.nodes["b"].answer["notice"], "b is told")
        assert not trial.nodes["b"].listed()


def test_a_choice_in_a_whole_chain_is_in_force_only_after_the_others_leases(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        trial.wait(lambda: all(n.leases for n in trial.nodes.values()), "leases for all")
        incarnations = {name: trial.nodes[name].incarnation for name in "abc"}
        assert trial.ask("CATENA.CHOOSE", "c", "b") == "OK"
        trial.wait(lambda: 4 in trial.nodes["b"].pushed_at, "b hears of it")
        chosen = trial.nodes["b"].pushed_at[4]
        assert trial.nodes["b"].incarnation == incarnations["b"], "a living member keeps its life"
        for name in "ac":
            grants = [g for g in trial.nodes[name].leases if g[1] == incarnations[name]]
            sent, _, length = grants[-1]
            assert chosen >= sent + length


def test_neighbours_that_cannot_reach_each_other_are_parted(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        cut_off = trial.nodes["a"]
        incarnation = cut_off.incarnation
        cut_off.set(successor_linked=False)
        trial.wait(lambda: cut_off.answer.get("resign"), "a is asked to resign")
        cut_off.set(phase="resigning", problem=cut_off.answer["resign"])
        trial.wait_members("bca")
        assert cut_off.incarnation > incarnation


def test_the_next_leader_knows_everything_and_waits_a_lease(directory):
    with Trial(directory, coordinators=3) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        leader = trial.wait(trial.leader, "a leader")
        leader.kill()
        trial.nodes["c"].fall_silent()
        second = trial.wait(lambda: trial.leader(), "another leader")
        assert second is not leader
        trial.wait_members("ab")
        assert trial.nodes["a"].configuration["epoch"] == 4


def test_a_graceful_end_hands_the_leadership_over_at_once(directory):
    with Trial(directory, coordinators=2) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        leader = trial.wait(trial.leader, "a leader")
        began = time.monotonic()
        assert leader.stop(), "SIGTERM ends it"
        trial.wait(trial.leader, "another leader")
        assert time.monotonic() - began < 1.8, "the key was revoked, not waited for"


def test_a_paused_leader_grants_nothing_once_another_leads(directory):
    with Trial(directory, coordinators=2) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        leader = trial.wait(trial.leader, "a leader")
        # Bytes that the paused leader finds when it wakes up.
        connection = Connection(leader.address)
        leader.pause()
        trial.wait(trial.leader, "another leader")
        node = trial.nodes["a"]
        report = {"cluster": "trial", "chain": "c", "node": "a", "incarnation": node.incarnation,
                  "number": 1, "phase": "member", "epoch": 3, "synced": True}
        connection.send("CATENA.HEARTBEAT", json.dumps(report))
        leader.resume()
        assert connection.receive()[0] == "NOTLEADER"
        trial.wait_members("abc")


def test_without_etcd_nothing_is_granted_and_afterwards_all_goes_on(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        node = trial.nodes["a"]
        trial.etcds[0].pause()

        def leases_stop():
            count = len(node.leases)
            return node.stopped.wait(0.5) or len(node.leases) == count

        trial.wait(leases_stop, "no more leases")
        trial.etcds[0].resume()
        count = len(node.leases)
        trial.wait(lambda: len(node.leases) > count, "leases again")
        trial.wait_members("abc")
        assert node.configuration["epoch"] == 3


def test_a_hung_etcd_of_three_is_passed_over(directory):
    with Trial(directory, etcds=3) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        trial.etcds[0].pause()  # the first endpoint of the TOML
        trial.nodes["c"].stop()
        trial.wait_members("ab", timeout=20)
        trial.etcds[0].resume()


def test_a_lost_etcd_is_noticed_and_an_operator_decides(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        epoch = trial.nodes["a"].configuration["epoch"]
        trial.etcds[0].kill()
        subprocess.run(["rm", "-rf", str(Path(directory) / "etcd0")], check=True)
        trial.etcds[0].start()
        trial.wait(lambda: "etcd was lost" in trial.waiting_for(), "the loss is noticed")
        assert trial.record() is None
        assert trial.ask("CATENA.CHOOSE", "c", "b") == "OK"
        trial.wait(lambda: trial.nodes["b"].members()[:1] == ["b"], "b leads")
        assert trial.nodes["b"].pushed_at[epoch + 1]
        trial.wait(lambda: sorted(trial.nodes["b"].members()) == ["a", "b", "c"], "all are back")


def test_a_lowered_lease_does_not_shorten_the_wait_for_the_old_one_s17(directory):
    with Trial(directory) as trial:
        for name in "abc":
            trial.node(name)
        trial.wait_members("abc")
        node = trial.nodes["a"]
        trial.wait(lambda: node.leases, "a lease")
        coordinator = trial.coordinators[0]
        listen = [coordinator.address]
        # Leases of 5 s from now on; the record says so before one is granted.
        trial.write_config(listen, 3, "operator", "abc", lease=5)
        assert coordinator.stop()
        coordinator.start()
        trial.wait(lambda: node.leases[-1][2] == 5, "a long lease")
        assert trial.record()["lease"] == int(5e9)
        node.fall_silent()
        trial.write_config(listen, 3, "operator", "abc", lease=0.3)
        assert coordinator.stop()
        coordinator.start()
        trial.wait_members("bc", timeout=20)
        sent, _, length = node.leases[-1]
        second = trial.nodes["b"]
        assert length == 5
        assert second.pushed_at[second.configuration["epoch"]] - sent >= 5


def test_garbage_and_strangers_are_cut_off(directory):
    with Trial(directory) as trial:
        trial.node("a")
        trial.node("b")
        trial.node("c")
        trial.wait_members("abc")
        address = trial.coordinators[0].address
        host, port = address.rsplit(":", 1)
        with pytest.raises(Closed):
            Connection(address, secret=b"not the secret")
        with pytest.raises(Closed):
            Connection(address, cluster="other")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"*1\r\n$999999999\r\n",
                        b"*1000000\r\n"):
            raw = socket.create_connection((host, int(port)), timeout=10)
            raw.sendall(garbage)
            try:
                while raw.recv(65536):
                    pass
            except ConnectionError:
                pass
            raw.close()
        for message in (["CATENA.HEARTBEAT", "{}"], ["CATENA.HEARTBEAT", "[" * 1000], ["PING"],
                        ["CATENA.HEARTBEAT", "x" * (2 << 20)]):
            connection = Connection(address)
            connection.send(*message)
            with pytest.raises(Closed):
                connection.receive()
                connection.receive()
        silent = socket.create_connection((host, int(port)), timeout=20)
        began = time.monotonic()
        assert silent.recv(1) == b""
        assert 4 < time.monotonic() - began < 15
        assert trial.status()["chains"][0]["record"]["configuration"]["epoch"] == 3


def test_many_connections_do_not_keep_nodes_out(directory):
    with Trial(directory) as trial:
        trial.node("a")
        trial.node("b")
        trial.node("c")
        trial.wait_members("abc")
        host, port = trial.coordinators[0].address.rsplit(":", 1)
        held = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
        node = trial.nodes["a"]
        count = node.answers
        trial.wait(lambda: node.answers > count + 20, "heartbeats go on")
        for each in held:
            each.close()


def test_check_and_wrong_flags(directory):
    trial = Trial(directory)
    binary = str(binary_directory() / "catena-coordinator")
    good = subprocess.run([binary, "--config", str(trial.config), "--check"], capture_output=True,
                          check=False)
    assert good.returncode == 0
    bad = subprocess.run([binary, "--config", str(trial.config), "--listen", "127.0.0.1:1"],
                         capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "must be one of [coordinator] listen" in bad.stderr


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise SystemExit(pytest.main([__file__, "-q"]))
