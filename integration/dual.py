#!/usr/bin/env python3
"""The dual run: one random sequence of commands to a plain Redis and to a chain, whose answers must be the same bytes.

    integration/dual.py --seed 7 --commands 200000 --resp 3

starts both, sends the sequence through the head, the middle and the tail in turn, each step's commands in one write, and compares
every reply, and at the end the data of every server. The same options replay the same sequence; --head, --replay-from help
to look at a difference. What cannot be equal is listed in RULES, each with its reason.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cluster import Cluster, free_base_port  # noqa: E402
from command_generator import Generator, commands_of  # noqa: E402
from kinds import runs_here  # noqa: E402
from processes import Process, wait_until  # noqa: E402
from wire import Closed, Wire, encode  # noqa: E402

POSITIONS = ("head", "middle", "tail")
DATABASES = (0, 1, 2, 3)


class Difference(Exception):
    """The chain answered otherwise than a plain Redis."""


# --- replies as values, only for those that differ ---


def parse(raw):
    """A reply as nested tuples ("*", [...]), ("$", b"..."), ..."""
    value, end = _parse(raw, 0)
    assert end == len(raw), raw
    return value


def _parse(raw, at):
    end = raw.index(b"\r\n", at)
    kind, rest, at = raw[at:at + 1], raw[at + 1:end], end + 2
    if kind in b"$=!" and rest != b"-1":
        return (kind, raw[at:at + int(rest)]), at + int(rest) + 2
    if kind in b"*~>%" and rest != b"-1":
        items = []
        for _ in range(int(rest) * (2 if kind == b"%" else 1)):
            item, at = _parse(raw, at)
            items.append(item)
        return (kind, items), at
    return (kind, rest), at


def _same_elements(mine, theirs):
    return mine[0] == theirs[0] and isinstance(mine[1], list) and isinstance(theirs[1], list) and \
        sorted(map(repr, mine[1])) == sorted(map(repr, theirs[1]))


def _same_pairs(mine, theirs):
    def pairs(value):
        return sorted(map(repr, zip(value[1][::2], value[1][1::2])))
    return mine[0] == theirs[0] and isinstance(mine[1], list) and isinstance(theirs[1], list) and \
        pairs(mine) == pairs(theirs)


def _same_scan(mine, theirs):
    """The elements, of a scan that one call completes."""
    if not (isinstance(mine[1], list) and isinstance(theirs[1], list) and len(mine[1]) == len(theirs[1]) == 2):
        return False
    whole = mine[1][0] == theirs[1][0] == (b"$", b"0")
    return _same_elements(mine[1][1], theirs[1][1]) if whole else mine[1][0][0] == theirs[1][0][0]


def _same_kind(mine, theirs):
    """Both errors or neither, and as many elements."""
    def shape(value):
        return value[0], len(value[1]) if isinstance(value[1], list) else None
    return shape(mine) == shape(theirs)


def _close_numbers(mine, theirs):
    if mine[0] != theirs[0] or mine[0] != b":":
        return False
    one, other = int(mine[1]), int(theirs[1])
    return min(one, other) >= 0 and abs(one - other) < 300_000


def _same_but_numbers(mine, theirs):
    """Times and counts within: everything else is equal."""
    def blank(value):
        if isinstance(value[1], list):
            return value[0], [blank(v) for v in value[1]]
        return (value[0], b"") if value[0] == b":" else value
    return blank(mine) == blank(theirs)


def _unless_unknown(mine, theirs):
    """SCRIPT FLUSH empties the head's cache; a follower may still hold a script and run it."""
    return b"NOSCRIPT" in mine[1][:8] or b"NOSCRIPT" in theirs[1][:8]


def _both_fine(mine, theirs):
    return mine[0] not in b"-" and theirs[0] not in b"-"


_UNORDERED = "the order of a hash table, whose seed is random in every server"
_RANDOM = "chosen at random"
_TIME = "depends on the moment"
# name: (comparison of what is not the same bytes, why)
RULES = {
    "smembers": (_same_elements, _UNORDERED), "sinter": (_same_elements, _UNORDERED),
    "sunion": (_same_elements, _UNORDERED), "sdiff": (_same_elements, _UNORDERED),
    "spop": (_same_elements, _UNORDERED), "hkeys": (_same_elements, _UNORDERED),
    "hvals": (_same_elements, _UNORDERED), "keys": (_same_elements, _UNORDERED),
    "hgetall": (_same_pairs, _UNORDERED), "config": (_same_pairs, _UNORDERED),
    "function|list": (_same_kind, _UNORDERED), "function|dump": (_same_kind, _UNORDERED),
    "command": (_same_kind, _UNORDERED),
    "scan": (_same_scan, _UNORDERED), "hscan": (_same_scan, _UNORDERED), "sscan": (_same_scan, _UNORDERED),
    "zscan": (_same_scan, _UNORDERED),
    "dump": (_same_kind, _UNORDERED),
    "srandmember": (_same_kind, _RANDOM), "hrandfield": (_same_kind, _RANDOM), "zrandmember": (_same_kind, _RANDOM),
    "randomkey": (_same_kind, _RANDOM), "lolwut": (_same_kind, _RANDOM), "acl|genpass": (_same_kind, _RANDOM),
    "ttl": (_close_numbers, _TIME), "pttl": (_close_numbers, _TIME), "expiretime": (_close_numbers, _TIME),
    "pexpiretime": (_close_numbers, _TIME), "time": (_same_kind, _TIME), "lastsave": (_close_numbers, _TIME),
    "object|idletime": (_close_numbers, _TIME), "xpending": (_same_but_numbers, _TIME),
    "xinfo|consumers": (_same_but_numbers, _TIME), "xinfo|stream": (_same_but_numbers, _TIME),
    "memory|usage": (_close_numbers, "memory of a process"), "memory|stats": (_both_fine, "memory of a process"),
    "slowlog|get": (_both_fine, _TIME), "slowlog|len": (_both_fine, _TIME),
    "latency|histogram": (_both_fine, _TIME), "latency|history": (_both_fine, _TIME),
    "latency|latest": (_both_fine, _TIME),
    "hello": (_same_but_numbers, "the connection's id"), "client|id": (_both_fine, "the connection's id"),
    "publish": (_both_fine, "counts the subscribers of one node"),
    "spublish": (_both_fine, "counts the subscribers of one node"),
    "evalsha_ro": (_unless_unknown, "each node has a cache of scripts"),
    "module|list": (_same_kind, "memory of a process"),
}


def _rule(command, rules):
    name = command[0].decode("latin-1").lower()
    if len(command) > 1:
        full = f"{name}|{command[1].decode('latin-1').lower()}"
        if full in rules:
            return rules[full][0]
    return rules.get(name, (None,))[0]


def same(command, mine, theirs, rules=None):
    """Whether two raw replies to this command are equal as far as they can be."""
    if mine == theirs:
        return True
    rule = _rule(command, RULES if rules is None else rules)
    return rule is not None and rule(parse(mine), parse(theirs))


# --- the two sides ---


class Connection:
    """One client: its connection to the plain Redis and to the chain, and what it has queued in MULTI."""

    def __init__(self, name, plain, chain, resp, rules=None):
        self.name = name
        self.rules = RULES if rules is None else rules
        self.plain, self.chain = Wire(plain, 60), Wire(chain, 60)
        self.queued = None
        self.protocol = resp
        if resp == 3:
            for wire in (self.plain, self.chain):
                wire.call("HELLO", "3")

    def close(self):
        self.plain.close()
        self.chain.close()

    def run(self, commands):
        """Sends all to both at once; [(command, plain's reply, the chain's)] of those that differ."""
        data = b"".join(encode(*command) for command in commands)
        self.plain.send(data)
        self.chain.send(data)
        wrong = []
        plain = self.plain.replies(len(commands))
        try:
            chain = self.chain.replies(len(commands))
        except (Closed, OSError) as error:
            raise Difference(f"{self.name}: no answer from the chain ({error!r}) to {commands}") from error
        for command, mine, theirs in zip(commands, plain, chain):
            if not self._same(command, mine, theirs):
                wrong.append((command, mine, theirs))
        return wrong

    def _same(self, command, mine, theirs):
        name = command[0].lower()
        if mine == b"+QUEUED\r\n":
            self.queued.append(command)
            return theirs == mine
        if name == b"multi" and mine == b"+OK\r\n":
            self.queued = []
        elif name in (b"exec", b"discard") and self.queued is not None and not mine.startswith(b"-ERR wrong number"):
            queued, self.queued = self.queued, None
            return mine == theirs or self._same_exec(queued, mine, theirs)
        return same(command, mine, theirs, self.rules)

    def _same_exec(self, queued, mine, theirs):
        mine, theirs = parse(mine), parse(theirs)
        if not (isinstance(mine[1], list) and isinstance(theirs[1], list)) or len(mine[1]) != len(theirs[1]):
            return False
        for command, one, other in zip(queued, mine[1], theirs[1]):
            rule = _rule(command, self.rules)
            if one != other and not (rule and rule(one, other)):
                return False
        return True


class Dual:
    """A plain Redis beside a running cluster, and a client of each position's proxy for each seed."""

    rules = RULES

    def __init__(self, cluster, plain_port=None, plain_args=()):
        self.cluster = cluster
        self._directory = tempfile.TemporaryDirectory(prefix="catena-plain-")
        self.port = plain_port or free_base_port()
        self.plain = Process("plain redis", ["redis-server", "--port", str(self.port), "--save", "",
                                             "--enable-debug-command", "yes", "--dir", self._directory.name, *plain_args],
                             log=Path(self._directory.name) / "log")

    def __enter__(self):
        import redis  # pylint: disable=import-outside-toplevel
        self.plain.start()
        self.client = redis.Redis(port=self.port, socket_timeout=30)
        wait_until(self._answers, 20, "the plain Redis answers")
        return self

    def __exit__(self, *_):
        self.plain.kill()
        self._directory.cleanup()

    def _answers(self):
        import redis  # pylint: disable=import-outside-toplevel
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def connections(self, resp):
        plain = f"127.0.0.1:{self.port}"
        return [Connection(position, plain, self.cluster.at(position).clients, resp, self.rules) for position in POSITIONS]

    def clear(self):
        for client in (self.client, self.cluster.head().redis_client()):
            client.flushall()
            if runs_here("EVAL"):
                client.function_flush()
                client.script_flush()

    def run(self, seed, commands, resp, keep_going=False):
        """Runs that many commands of that seed; Difference at the first reply that is not the same."""
        self.clear()
        run = _Run(self, seed, resp)
        try:
            run.go(commands, keep_going)
        finally:
            run.close()
        self.compare_data()
        return run

    def generator(self, rng):
        generator = Generator(commands_of(self.client), rng)
        generator.payloads = self.payloads()
        return generator

    @staticmethod
    def watched(rng):
        """Keys for WATCH."""
        return [b"s:%d" % rng.randrange(8), b"l:1"]

    def payloads(self):
        """Values of DUMP for RESTORE, one of each type."""
        client = self.client
        client.mset({"d:1": "text", "d:2": "12"})
        client.rpush("d:3", 1, 2, "three")
        client.zadd("d:4", {"a": 1, "b": 2})
        client.hset("d:5", mapping={"f": "v"})
        client.sadd("d:6", 1, 2, 3)
        client.xadd("d:7", {"f": "v"}, id="1-1")
        found = [client.dump(f"d:{i}") for i in range(1, 8)]
        client.flushall()
        return found + [found[0][:-1] + b"x"]

    # --- data ---

    def compare_data(self):
        """The data sets of the plain Redis and of every node's Redis, Difference when not equal."""
        servers = {node.id: node.direct_client() for node in self.cluster.wait_members()}
        self.cluster.wait_position()
        wanted = self.client.execute_command("DEBUG", "DIGEST")
        for name, server in servers.items():
            if server.execute_command("DEBUG", "DIGEST") != wanted:
                raise Difference(f"data of {name}: {self._different_keys(server)}")
            self._compare_functions(name, server)
        head, *followers = servers.values()
        self._compare_deadlines(self.client, head, 300_000)
        for follower in followers:
            self._compare_deadlines(head, follower, 0)

    def _different_keys(self, server):
        found = []
        for database in DATABASES:
            mine, theirs = _in(self.client, database), _in(server, database)
            for key in sorted(set(mine.keys()) | set(theirs.keys())):
                one, other = (c.execute_command("DEBUG", "DIGEST-VALUE", key) for c in (mine, theirs))
                if one != other:
                    found.append((database, key, mine.type(key), theirs.type(key), mine.dump(key), theirs.dump(key)))
        return found or "only the deadlines differ"

    def _compare_functions(self, name, server):
        def functions(client):
            return sorted(repr(library) for library in client.execute_command("FUNCTION", "LIST", "WITHCODE"))
        mine, theirs = functions(self.client), functions(server)
        if len(mine) != len(theirs):
            raise Difference(f"functions of {name}: {theirs}, wanted {mine}")

    def _compare_deadlines(self, first, second, tolerance):
        for database in DATABASES:
            one, other = _in(first, database), _in(second, database)
            keys = sorted(one.keys())
            mine, theirs = ([c.execute_command("PEXPIRETIME", key) for key in keys] for c in (one, other))
            for key, a, b in zip(keys, mine, theirs):
                if abs(a - b) > tolerance:
                    raise Difference(f"deadline of {key!r} in database {database}: {a} and {b}")


def _in(client, database):
    return type(client)(**dict(client.connection_pool.connection_kwargs, db=database))


class _Run:
    """One seed's sequence."""

    def __init__(self, dual, seed, resp):
        self.random = random.Random(seed)
        self.generator = dual.generator(self.random)
        self.watched = dual.watched
        self.connections = dual.connections(resp)
        self.seed, self.resp = seed, resp
        self.sent = 0
        self.in_multi = {c.name: False for c in self.connections}
        self.differences = []

    def close(self):
        for connection in self.connections:
            connection.close()

    def go(self, commands, keep_going):
        while self.sent < commands:
            connection = self.connections[self.random.randrange(3)]
            step = self._step(connection)
            wrong = connection.run(step)
            self.sent += len(step)
            for command, mine, theirs in wrong:
                text = (f"seed {self.seed} RESP{self.resp}, within {self.sent} commands, at the {connection.name}: {command}\n"
                        f"  plain: {mine[:400]!r}\n  chain: {theirs[:400]!r}")
                if not keep_going:
                    raise Difference(text)
                self.differences.append(text)

    def _step(self, connection):
        """One write's commands: one, some or many; transactions open and close as it comes."""
        size = self.random.choice((1, 1, 2, 8, 60, 150, 400))
        commands = []
        for _ in range(size):
            commands.append(self._one(connection.name))
        return commands

    def _one(self, name):
        draw = self.random.random()
        if self.in_multi[name]:
            if draw < 0.15:
                self.in_multi[name] = False
                return [b"EXEC"] if draw < 0.12 else [b"DISCARD"]
            if draw < 0.16:
                return self.random.choice(([b"MULTI"], [b"WATCH", b"s:1"], [b"UNWATCH"], [b"NOSUCH"], [b"GET"]))
        elif draw < 0.01:
            self.in_multi[name] = True
            return [b"MULTI"]
        elif draw < 0.02:
            return [b"WATCH", *self.watched(self.random)]
        return self.generator.next()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--resp", type=int, choices=(2, 3), default=2)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds, beginning with --seed")
    parser.add_argument("--keep-going", action="store_true", help="show further differences, which may follow from the first")
    options = parser.parse_args(arguments)
    with Cluster(nodes=3, redis_args=["--enable-debug-command", "yes"]) as cluster, Dual(cluster) as dual:
        for seed in range(options.seed, options.seed + options.seeds):
            started = time.monotonic()
            try:
                run = dual.run(seed, options.commands, options.resp, options.keep_going)
            except Difference as difference:
                print(difference)
                return 1
            for text in run.differences:
                print(text)
            if run.differences:
                return 1
            print(f"seed {seed}: {run.sent} commands, equal, {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
