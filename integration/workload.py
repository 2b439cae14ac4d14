"""Clients that remember what they were told, and notice when the chain forgets or contradicts it.

Every client counts upwards in what it writes, so that any value tells how old it is:

- *registers*: keys that one writer alone sets to ever larger numbers. A read that began after a write
  was acknowledged, or after another read had shown a value, must not show a smaller one. That is
  linearizability for such keys, checked at every single read.
- *lists*: one for each writer, which appends to it. What was acknowledged is there, once, in order.
  Where databases hold strings only, a list is some strings.

    with Load(cluster) as load:
        load.wait_progress()
        cluster.tail().proxy.kill()
        ...
    load.check(cluster.nodes)     # everything acknowledged is at each of the nodes
    assert not load.failures(survivors)
"""

import itertools
import random
import socket
import threading
import time
from typing import NamedTuple

from processes import Failed, wait_until

OK, UNKNOWN, DOWN = "ok", "unknown", "down"        # answers
CLOSED, SILENT, ERROR, STALE = "closed", "silent", "error", "stale"
WRITE, READ, CLEAN = "write", "read", "clean"      # kinds of clients

_REGISTERS = 40
_CLEAN_KEYS = 50
_STRING_ITEMS = 200  # of a list in one string
_PAUSE = 0.003
_numbers = itertools.count(1)


class ErrorReply(Exception):
    """What a server answered behind a '-'."""


class Connection:
    """One connection; send() and receive() apart, so that a test can leave a question open."""

    def __init__(self, address, timeout=15):
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, *arguments):
        parts = [b"*%d\r\n" % len(arguments)]
        for argument in arguments:
            data = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
        self._socket.sendall(b"".join(parts))

    def receive(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ErrorReply(rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if int(rest) < 0 else self._file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self.receive() for _ in range(int(rest))]
        raise Failed(f"unexpected reply {line!r}")

    def call(self, *arguments):
        self.send(*arguments)
        return self.receive()

    def close(self):
        self._file.close()
        self._socket.close()


class Operation(NamedTuple):
    node: str
    kind: str
    started: float
    ended: float
    outcome: str
    detail: str


class History:
    """What one writer wrote, what was acknowledged, and what readers have seen of it since."""

    def __init__(self, name, strings_only=False):
        self.name = name
        self._strings_only = strings_only
        self.attempted = 0                # largest number sent so far
        self.list_attempted = 0
        self.list_acknowledged = []
        self._floor = [0] * _REGISTERS    # no later read may show less
        self._lock = threading.Lock()

    def register(self, slot):
        return f"{self.name}:register:{slot}"

    @property
    def list_key(self):
        return f"{self.name}:list"

    def append_command(self, number):
        if self._strings_only:
            return ("APPEND", f"{self.list_key}:{number // _STRING_ITEMS}", f"{number} ")
        return ("RPUSH", self.list_key, number)

    def _items(self, redis):
        if not self._strings_only:
            return [int(item) for item in redis.lrange(self.list_key, 0, -1)]
        parts = redis.mget([f"{self.list_key}:{part}"
                            for part in range(self.list_attempted // _STRING_ITEMS + 1)])
        return [int(item) for part in parts for item in (part or b"").split()]

    def floor(self, slot):
        return self._floor[slot]

    def raise_floor(self, slot, value):
        with self._lock:
            self._floor[slot] = max(self._floor[slot], value)

    def problems(self, redis, where):
        """What the database lacks of it, or has without reason."""
        found = []
        values = redis.mget([self.register(slot) for slot in range(_REGISTERS)])
        for slot, value in enumerate(values):
            if int(value or 0) < self.floor(slot):
                found.append(f"{where}: {self.register(slot)} is {value}, acknowledged or shown "
                             f"was {self.floor(slot)}")
        items = self._items(redis)
        lost = sorted(set(self.list_acknowledged) - set(items))
        if lost:
            found.append(f"{where}: {self.list_key} lacks {len(lost)} acknowledged items, "
                         f"such as {lost[:5]}")
        if any(a >= b for a, b in zip(items, items[1:])):
            found.append(f"{where}: {self.list_key} is out of order or holds an item twice")
        if items and items[-1] > self.list_attempted:
            found.append(f"{where}: {self.list_key} holds {items[-1]}, which nobody wrote")
        return found


class Load:
    """At each of the nodes: a client that writes, one that reads what all of them write, and one
    that reads keys that nobody writes any more. Each has a connection of its own, asks one thing
    at a time, and connects again when it lost its connection. With a depth, the writers send so many
    commands before they read the first answer."""

    def __init__(self, cluster, nodes=None, depth=1):
        self.nodes = list(nodes or cluster.nodes)
        self._name = f"load{next(_numbers)}"
        self._depth = depth
        self._stopping = threading.Event()
        self._histories = [History(f"{self._name}:{node.id}", cluster.backend == "rocksdb")
                           for node in self.nodes]
        self._operations = {(node.id, kind): []
                            for node in self.nodes for kind in (WRITE, READ, CLEAN)}
        self._threads = []

    def __enter__(self):
        redis = self.nodes[0].redis_client()
        redis.flushall()
        redis.mset({self._clean_key(i): f"value {i}" for i in range(_CLEAN_KEYS)})
        redis.close()
        for node, history in zip(self.nodes, self._histories):
            for kind, loop in ((WRITE, self._writer(history)), (READ, self._reader()),
                               (CLEAN, self._clean_reader())):
                self._threads.append(threading.Thread(target=self._run, args=(node, kind, loop),
                                                      daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    # --- looking ---

    def operations(self, nodes=None, kind=None, since=0.0):
        """Those that ended after `since`, of some nodes and one kind if wanted."""
        chosen = {node.id for node in nodes or self.nodes}
        return [operation for (node, its_kind), list_ in self._operations.items()
                if node in chosen and kind in (None, its_kind)
                for operation in list_[:] if operation.ended >= since]

    def failures(self, nodes=None, kind=None, since=0.0):
        return [o for o in self.operations(nodes, kind, since) if o.outcome != OK]

    def resumed(self, node, kind, since):
        """When the first operation that began after `since` had succeeded; None: not yet."""
        for operation in self._operations[(node.id, kind)][:]:
            if operation.outcome == OK and operation.started >= since:
                return operation.ended
        return None

    def longest_pause(self, nodes, kind, since):
        """The longest time without a success at any one of the nodes, in seconds."""
        longest = 0.0
        for node in nodes:
            ends = [o.ended for o in self.operations([node], kind) if o.outcome == OK]
            for before, after in zip(ends, ends[1:]):
                if after >= since:
                    longest = max(longest, after - before)
        return longest

    def wait_progress(self, nodes=None, count=20, timeout=20):
        """Waits until every client at the nodes has had so many successes from now on."""
        since = time.monotonic()
        chosen = list(nodes or self.nodes)
        missing = []

        def advanced():
            missing[:] = [(node, kind) for node in chosen for kind in (WRITE, READ, CLEAN)
                          if self._successes(node, kind, since) < count]
            return not missing

        wait_until(advanced, timeout,
                   lambda: f"{count} successes of each client: missing {missing}; the last failures: "
                   f"{self.failures(chosen, since=since)[-5:]}")

    def probe(self, connection):
        """Sends a read of some register; judge() says whether the answer may be given."""
        history, slot = random.choice(self._histories), random.randrange(_REGISTERS)
        floor = history.floor(slot)
        connection.send("GET", history.register(slot))
        return history, slot, floor

    def judge(self, question, connection):
        """(outcome, detail) of the answer to a probe."""
        try:
            return self._judge(question, connection)
        except OSError as error:
            return SILENT if isinstance(error, TimeoutError) else CLOSED, str(error)

    @staticmethod
    def _judge(question, connection):
        history, slot, floor = question
        try:
            value = int(connection.receive() or 0)
        except ErrorReply as error:
            return _outcome_of(error), str(error)
        if floor <= value <= history.attempted:
            history.raise_floor(slot, value)
            return OK, ""
        return STALE, f"{history.register(slot)} was {floor} or more, and {value} was read"

    def check(self, nodes):
        """Failed unless no read was stale and everything acknowledged is at each of the nodes."""
        problems = [f"{o.node}: {o.detail}" for o in self.failures() if o.outcome == STALE]
        for node in nodes:
            redis = node.direct_client()
            for history in self._histories:
                problems += history.problems(redis, node.id)
            redis.close()
        if problems:
            raise Failed("\n".join(problems[:20]))
        if not any(history.list_acknowledged for history in self._histories):
            raise Failed("nothing was written")

    # --- clients ---

    def _successes(self, node, kind, since):
        count = 0
        for operation in reversed(self._operations[(node.id, kind)][:]):
            if operation.started < since:
                break
            count += operation.outcome == OK
        return count

    def _run(self, node, kind, operate):
        operations = self._operations[(node.id, kind)]
        connection = None
        while not self._stopping.is_set():
            started = time.monotonic()
            outcome = OK
            try:
                if connection is None:
                    connection = Connection(node.clients)
                for outcome, detail in operate(connection):
                    operations.append(Operation(node.id, kind, started, time.monotonic(), outcome,
                                                detail))
            except OSError as error:
                outcome = SILENT if isinstance(error, TimeoutError) else CLOSED
                operations.append(Operation(node.id, kind, started, time.monotonic(), outcome,
                                            str(error)))
                if connection is not None:
                    connection.close()
                connection = None
            self._stopping.wait(_PAUSE if outcome == OK else 5 * _PAUSE)
        if connection is not None:
            connection.close()

    def _writer(self, history):
        """Sets a register and appends to the list by turns."""
        def set_register(connection):
            history.attempted += 1
            number = history.attempted
            slot = number % _REGISTERS
            connection.send("SET", history.register(slot), number)
            return lambda: history.raise_floor(slot, number)

        def append(connection):
            history.list_attempted += 1
            number = history.list_attempted
            connection.send(*history.append_command(number))
            return lambda: history.list_acknowledged.append(number)

        turns = itertools.cycle((set_register, append))

        def write(connection):
            for acknowledge in [next(turns)(connection) for _ in range(self._depth)]:
                try:
                    connection.receive()
                    acknowledge()
                    yield OK, ""
                except ErrorReply as error:
                    yield _outcome_of(error), str(error)

        return write

    def _reader(self):
        def read(connection):
            yield self._judge(self.probe(connection), connection)

        return read

    def _clean_reader(self):
        def read(connection):
            number = random.randrange(_CLEAN_KEYS)
            try:
                value = connection.call("GET", self._clean_key(number))
            except ErrorReply as error:
                yield _outcome_of(error), str(error)
                return
            if value == b"value %d" % number:
                yield OK, ""
            else:
                yield STALE, f"{self._clean_key(number)} is {value!r}"

        return read

    def _clean_key(self, number):
        return f"{self._name}:clean:{number}"


def _outcome_of(error):
    code = str(error).split(" ", 1)[0]
    return {"UNKNOWNOUTCOME": UNKNOWN, "CHAINDOWN": DOWN}.get(code, ERROR)
