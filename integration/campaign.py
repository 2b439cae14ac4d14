#!/usr/bin/python3
"""Concurrent clients on a chain of real processes while faults strike; all that they saw is judged.

    campaign.py --seconds 120 --seed 7 \\
        --faults kill,pause,partition,isolate,wipe,coordinator,etcd,join,drain

Clients at every proxy work on registers, counters, lists and pairs of keys that are written
together (MULTI, scripts; neither lists nor scripts on RocksDB), and note when they asked and when they were answered. In the end
everything is healed, each object is read once more, the databases are compared, and the history of
each object must be linearizable (linearizability.py). Exit code 0 if it is; otherwise logs and
history are kept, and the output says where. The seed decides about faults and commands, not about
how long things take.
"""

import argparse
import json
import math
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import dataset  # noqa: E402
import faults  # noqa: E402
from cluster import Cluster, settings_of  # noqa: E402
from kinds import BACKENDS  # noqa: E402
from linearizability import (COUNTER, LIST, PAIR, REGISTER, UNKNOWN, Operation,  # noqa: E402
                             Undecided, check)
from processes import Failed, wait_until  # noqa: E402
from workload import Connection, ErrorReply  # noqa: E402

MEMBERS, SPARES = 3, 1
CLIENTS_EACH = 3         # of which the first only reads, at its own node: nothing holds it up
OBJECTS_EACH = 3         # of each kind, at a time
READS_SHARE = {"register": 0.45, "counter": 0.5, "list": 0.2, "pair": 0.5}
ERA_SECONDS = 3          # ... then others take their turn: short histories are quick to judge
ANSWER_SECONDS_MAX = 5
PAUSE_SECONDS = 0.004    # between the operations of one client
WITHOUT_OPERATIONS = 500  # that the chain goes on for without a node that it has replaced
_UNKNOWN = "UNKNOWNOUTCOME"
_ERRORS = (_UNKNOWN, "CHAINDOWN", "EXECABORT")  # with the others, nothing was executed
_WRITE_BOTH = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[1])"


def kinds_on(backend):
    """The objects that a kind of database can hold."""
    return tuple(kind for kind in READS_SHARE if backend == "redis" or kind != "list")


class Client:
    """One client of one proxy: one operation at a time, the next one chosen at random; with
    reads_only, one that changes nothing.

    history: (object, Operation); errors: how often which code was answered; failure: what ended it.
    """

    def __init__(self, name, node, seed, started, stopping, reads_only):
        self._kinds = kinds_on(node.cluster.backend)
        self.history = []
        self.errors = Counter()
        self.failure = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._name, self._node = name, node
        self._reads_only = reads_only
        self._random = random.Random(f"{seed} {name}")
        self._started, self._stopping = started, stopping
        self._connection = None
        self._written = 0

    def _run(self):
        try:
            while not self._stopping.is_set():
                self._stopping.wait(PAUSE_SECONDS if self._turn() else 5 * PAUSE_SECONDS)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = f"client {self._name} saw what must not be: {error!r}"
        self._disconnect()

    def _turn(self):
        """Whether it was answered without an error."""
        try:
            if self._connection is None:
                self._connection = Connection(self._node.clients, ANSWER_SECONDS_MAX)
            self._operate()
            return True
        except ErrorReply as error:
            code = str(error).split(" ", 1)[0]
            if code not in _ERRORS:
                raise
            self.errors[code] += 1
            # A WATCH that was not followed by EXEC must not reach another transaction.
            self._disconnect()
        except OSError:
            self._disconnect()
        return False

    def _disconnect(self):
        if self._connection:
            self._connection.close()
        self._connection = None

    def _operate(self):
        era = int((time.monotonic() - self._started) / ERA_SECONDS)
        kind = self._random.choice(self._kinds)
        reads = self._reads_only or self._random.random() < READS_SHARE[kind]
        operate = getattr(self, f"_{'read' if reads else 'change'}_{kind}")
        operate(f"{kind}:{era}:{self._random.randrange(OBJECTS_EACH)}")

    # --- what is done with each kind of object ---

    def _read_register(self, name):
        self._record(name, "GET", None, lambda: self._call("GET", name), changes=False)

    def _change_register(self, name):
        choice = self._random.random()
        if choice < 0.65:
            value = self._new_value()
            self._record(name, "SET", value, lambda: self._call("SET", name, value))
        elif choice < 0.8:
            value = self._new_value()
            self._record(name, "GETSET", value, lambda: self._call("GETSET", name, value))
        else:
            self._swap(name)

    def _swap(self, name):
        """WATCH, GET, MULTI, SET, EXEC: nothing is recorded of a swap that did not happen."""
        self._call("WATCH", name)
        seen = self._call("GET", name)
        value = self._new_value()
        self._record(name, "CAS", (seen, value), lambda: self._execute(
            ("SET", name, value), watched=True))

    def _read_counter(self, name):
        self._record(name, "GET", None, lambda: _number(self._call("GET", name)), changes=False)

    def _change_counter(self, name):
        self._record(name, "INCR", None, lambda: self._call("INCR", name))

    def _read_list(self, name):
        self._record(name, "LRANGE", None,
                     lambda: tuple(self._call("LRANGE", name, 0, -1)), changes=False)

    def _change_list(self, name):
        if self._random.random() < 0.5:
            value = self._new_value()
            self._record(name, "RPUSH", value, lambda: self._call("RPUSH", name, value))
        else:
            self._record(name, "LPOP", None, lambda: self._call("LPOP", name))

    def _read_pair(self, name):
        first, second = f"{name}:a", f"{name}:b"
        if self._reads_only or self._random.random() < 0.5:
            self._record(name, "READ", None, lambda: tuple(self._call("MGET", first, second)),
                         changes=False)
        else:  # at the head, which a node that is cut off does not reach
            self._record(name, "READ", None, lambda: self._execute(
                ("GET", first), ("GET", second)), changes=False)

    def _change_pair(self, name):
        first, second = f"{name}:a", f"{name}:b"
        choice = self._random.random()
        value = self._new_value()
        if choice < 0.5:
            self._record(name, "WRITE", value, lambda: self._execute(
                ("SET", first, value), ("SET", second, value)))
        elif choice < 0.8 and "list" in self._kinds:
            self._record(name, "WRITE", value, lambda: self._call(
                "EVAL", _WRITE_BOTH, 2, first, second, value))
        else:
            self._record(name, "WRITE", value, lambda: self._call(
                "MSET", first, value, second, value))

    # --- asking and noting ---

    def _new_value(self):
        self._written += 1
        return b"%b %d" % (self._name.encode(), self._written)

    def _record(self, name, kind, argument, ask, changes=True):
        invoked = time.monotonic()
        try:
            result, returned = ask(), time.monotonic()
        except (ErrorReply, OSError) as error:
            unknown = isinstance(error, OSError) or str(error).startswith(_UNKNOWN)
            if unknown and changes:
                lost = Operation(kind, argument, UNKNOWN, invoked, math.inf, self._name)
                self.history.append((name, lost))
            raise
        if kind == "CAS" and result is None:
            return
        operation = Operation(kind, argument, result, invoked, returned, self._name)
        self.history.append((name, operation))

    def _call(self, *arguments):
        return self._connection.call(*arguments)

    def _execute(self, *commands, watched=False):
        """MULTI ... EXEC; None only behind a WATCH. The commands are sent when MULTI was answered:
        without it they would be executed one by one."""
        self._call("MULTI")
        for command in commands:
            self._connection.send(*command)
        self._connection.send("EXEC")
        for _ in commands:
            try:
                self._connection.receive()
            except ErrorReply:
                pass  # then EXEC says so
        answer = self._connection.receive()
        if (answer is None and not watched) or (answer and len(answer) != len(commands)):
            raise Failed(f"EXEC answers {answer!r}")
        return None if answer is None else tuple(answer)


def _number(value):
    return None if value is None else int(value)


class Injector:
    """Strikes one or two nodes at a time, or what keeps the configuration, and undoes it.

    done: tells how many operations the clients have done.
    """

    def __init__(self, cluster, kinds, seed, say, done):
        self._cluster, self._say, self._done = cluster, say, done
        self._random = random.Random(f"{seed} faults")
        self._kinds = kinds
        self._next = []

    def round(self):
        """One fault, or two that overlap; then everything is whole again."""
        undo = {}
        busy = set()
        for _ in range(self._random.choice((1, 1, 2))):
            kind = self._choose()
            if kind in undo or undo.keys() | {kind} >= WANT_A_SPARE:
                break
            undo[kind] = self._strike(kind, busy)
            time.sleep(self._random.uniform(0.2, 2.5))
        # A spare that is to join wants what the other fault took away.
        for kind in sorted(undo, key=lambda kind: kind in WANT_A_SPARE):
            undo[kind]()
        self._cluster.wait_whole(timeout=60)
        time.sleep(self._random.uniform(0, 0.5))

    def _choose(self):
        """Each kind comes before any comes again."""
        if not self._next:
            self._next = self._random.sample(self._kinds, len(self._kinds))
        return self._next.pop()

    def _strike(self, kind, busy):
        """Begins a fault, at a node that is not busy; returns what ends it."""
        members = self._cluster.members() or self._cluster.nodes
        free = [node for node in members if node.id not in busy]
        node = self._random.choice(free or members)
        busy.add(node.id)
        return getattr(self, f"_{kind}")(node)

    def _kill(self, node):
        process = self._random.choice(node.processes())
        self._say(f"kill {process.name}")
        process.kill()
        return process.start

    def _pause(self, node):
        process = self._random.choice(node.processes())
        self._say(f"pause {process.name}")
        process.pause()
        return process.resume

    def _partition(self, node):
        relation = self._random.choice(("peers", "coordinators", "all"))
        others = "peers and coordinators" if relation == "all" else relation
        self._say(f"cut {node.id} from {others}")
        self._cluster.cut(node, relation)
        return lambda: self._cluster.heal(node)

    def _isolate(self, node):
        """The node's clients still reach it when the others have long gone on without it."""
        self._say(f"cut {node.id} from peers and coordinators until a spare has joined")
        self._cluster.cut(node, "all")

        def end():
            try:
                self._cluster.wait_whole(timeout=30, without=[node.id])
                goal = self._done() + WITHOUT_OPERATIONS
                wait_until(lambda: self._done() >= goal, 30, "the clients go on")
            finally:
                self._cluster.heal(node)

        return end

    def _wipe(self, node):
        """The database is back at once, and empty: no data was kept on disk."""
        self._say(f"restart {node.id}'s database, empty")
        if not node.redis:
            node.proxy.kill()
        node.wipe()
        node.proxy.start()
        return lambda: None

    def _join(self, node):
        """The node stays away until a spare has taken its place; a Redis has then lost all it had."""
        self._say(f"kill {node.id}, proxy and database, until a spare has joined")
        for process in node.processes():
            process.kill()

        def end():
            try:
                self._cluster.wait_whole(timeout=30, without=[node.id])
            finally:
                for process in reversed(node.processes()):
                    process.start()

        return end

    def _drain(self, node):
        self._say(f"stop {node.proxy.name}")
        if not node.proxy.stop():
            raise Failed(f"{node.proxy.name} did not stop at SIGTERM")
        return node.proxy.start

    def _coordinator(self, _):
        process = self._random.choice(self._cluster.coordinators)
        return self._stop_for_a_while(process)

    def _etcd(self, _):
        return self._stop_for_a_while(self._random.choice(self._cluster.etcds))

    def _stop_for_a_while(self, process):
        if self._random.random() < 0.5:
            self._say(f"kill {process.name}")
            process.kill()
            return process.start
        self._say(f"pause {process.name}")
        process.pause()
        return process.resume


FAULTS = ("kill", "pause", "partition", "isolate", "wipe", "coordinator", "etcd", "join", "drain")
NEED_NETWORKS = {"partition", "isolate"}
WANT_A_SPARE = {"join", "isolate"}
_MODELS = {"register": REGISTER, "counter": COUNTER, "list": LIST, "pair": PAIR}
_LAST_LOOK = {"register": ("GET", lambda c, name: c.get(name)),
              "counter": ("GET", lambda c, name: _number(c.get(name))),
              "list": ("LRANGE", lambda c, name: tuple(c.lrange(name, 0, -1))),
              "pair": ("READ", lambda c, name: tuple(c.mget(f"{name}:a", f"{name}:b")))}


def kind_of(name):
    return name.split(":", 1)[0]


class Campaign:
    """problems: what must not be; empty if all is well."""

    def __init__(self, arguments, directory):
        self._arguments = arguments
        self._directory = directory
        self._started = time.monotonic()
        self._histories = {}
        self.problems = []

    def run(self):
        networks = bool(NEED_NETWORKS & set(self._arguments.faults))
        with Cluster(nodes=MEMBERS, spares=SPARES, coordinators=2, own_networks=networks,
                     backend=self._arguments.backend, directory=self._directory,
                     settings=self._arguments.set) as cluster:
            self._started = time.monotonic()
            clients = self._strike_under_load(cluster)
            self._collect(clients)
            if not self.problems:
                self._look_at_the_end(cluster)
        self._judge()
        self._keep()

    def say(self, text):
        print(f"{time.monotonic() - self._started:7.1f} s  {text}", flush=True)

    def _strike_under_load(self, cluster):
        stopping = threading.Event()
        clients = [Client(f"{node.id}-{i}", node, self._arguments.seed, self._started, stopping,
                          reads_only=i == 0)
                   for node in cluster.nodes for i in range(CLIENTS_EACH)]
        for client in clients:
            client.thread.start()
        injector = Injector(cluster, self._arguments.faults, self._arguments.seed, self.say,
                            lambda: sum(len(client.history) for client in clients))
        try:
            while time.monotonic() - self._started < self._arguments.seconds:
                injector.round()
        except Failed as failure:
            self.problems.append(str(failure))
        finally:
            stopping.set()
            for client in clients:
                client.thread.join()
        self.problems += [client.failure for client in clients if client.failure]
        return clients

    def _collect(self, clients):
        for client in clients:
            for name, operation in client.history:
                self._histories.setdefault(name, []).append(operation)
        outcomes = Counter(operation.result is UNKNOWN
                           for history in self._histories.values() for operation in history)
        errors = sum((client.errors for client in clients), Counter())
        counted = ", ".join(f"{count} {code}" for code, count in errors.most_common())
        self.say(f"{outcomes[False]} operations done, {outcomes[True]} changes without outcome; "
                 f"errors: {counted or 'none'}")

    def _look_at_the_end(self, cluster):
        """Reads each object once more, and compares the databases of all nodes."""
        members = cluster.wait_members()
        for name, history in self._histories.items():
            client = members[len(history) % len(members)].redis_client()
            kind, read = _LAST_LOOK[kind_of(name)]
            invoked = time.monotonic()
            result = read(client, name)
            history.append(Operation(kind, None, result, invoked, time.monotonic(), "at the end"))
            client.close()
        cluster.wait_position(members)
        found = dataset.differences([node.direct_client() for node in members])
        self.problems += [f"the databases differ: {difference}" for difference in found]
        self.say(f"compared the databases of {', '.join(node.id for node in members)}")

    def _judge(self):
        for name, history in sorted(self._histories.items()):
            try:
                problem = check(_MODELS[kind_of(name)], history)
            except Undecided as undecided:
                problem = f"undecided: {undecided}"
            if problem:
                self.problems.append(f"{name} is not linearizable: {problem}")
        counts = Counter(operation.kind for history in self._histories.values()
                         for operation in history)
        self.say(f"checked {sum(counts.values())} operations on {len(self._histories)} objects: "
                 + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
        if not counts:
            self.problems.append("there is nothing to judge")

    def _keep(self):
        """The history, one operation a line."""
        with open(self._directory / "history.jsonl", "w", encoding="utf-8") as file:
            for name, history in self._histories.items():
                for operation in sorted(history, key=lambda o: o.invoked):
                    fields = operation._asdict()
                    if operation.result is UNKNOWN:
                        fields.update(result="unknown", returned=None)
                    file.write(json.dumps({"object": name, **fields}, default=repr) + "\n")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of faults (60)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one")
    parser.add_argument("--faults", default=",".join(FAULTS),
                        help=f"some of {','.join(FAULTS)} (all); partition and isolate want root")
    parser.add_argument("--backend", choices=BACKENDS,
                        help="the kind of database (CATENA_BACKEND, or redis)")
    parser.add_argument("--dir", help="for logs and the history; kept (default: a temporary one, "
                        "kept only if something is wrong)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a TOML value, as cluster.py takes it; repeatable")
    arguments = parser.parse_args()
    arguments.faults = arguments.faults.split(",")
    try:
        arguments.set = {"coordinator.lease": "1s", **settings_of(arguments.set)}
    except Failed as failure:
        parser.error(str(failure))
    unknown = set(arguments.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    networks = NEED_NETWORKS & set(arguments.faults)
    if networks and not faults.available():
        parser.error(f"{', '.join(sorted(networks))}: no right to make network namespaces; name "
                     "the other --faults")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    return arguments


def main():
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = Path(arguments.dir or tempfile.mkdtemp(prefix="catena-campaign-")).resolve()
    print(f"seed {arguments.seed}, {arguments.seconds:g} s, faults {','.join(arguments.faults)}; "
          f"{MEMBERS} members, {SPARES} spare, {CLIENTS_EACH} clients at each", flush=True)
    campaign = Campaign(arguments, directory)
    campaign.run()
    if campaign.problems:
        print("\n".join(campaign.problems[:10]))
        print(f"WRONG: {len(campaign.problems)} problems with seed {arguments.seed}; history and "
              f"logs are in {directory}")
        return 1
    if not arguments.dir:
        shutil.rmtree(directory)
    print("linearizable; equal databases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
