"""The same long random sequences of commands on strings to a plain Redis and to a chain of RocksDBs: equal answers, byte
for byte, and equal data at every node (see dual.py)."""

import os

import pytest

import dual
import string_commands
from cluster import Cluster

COMMANDS = 20_000
VALUES = ["", "0", "-129", "32767", "2147483648", "text", "x" * 20, "y" * 21, "z" * 5000, "\x00\xff" * 40, "ab" * 9000]


class StringDual(dual.Dual):
    # Of strings DUMP is the same bytes.
    rules = {name: dual.RULES[name] for name in ("keys", "scan", "randomkey", "ttl", "pttl", "expiretime", "pexpiretime")}

    def clear(self):
        for client in (self.client, self.cluster.head().redis_client()):
            client.flushall()

    def generator(self, rng):
        return string_commands.StringCommands(rng, self.payloads())

    @staticmethod
    def watched(rng):
        return [key.encode("latin-1") for key in rng.sample(string_commands.KEYS, 2)]

    def payloads(self):
        found = []
        for value in VALUES:
            self.client.set("d", value.encode("latin-1"))
            found.append(self.client.dump("d"))
        self.client.flushall()
        return found + [b"", found[5][:-1] + b"x"]

    def compare_data(self):
        """What is there, its deadlines, and nothing else, by each node's own database."""
        keys = [key.encode("latin-1") for key in string_commands.KEYS]
        for position in dual.POSITIONS:
            client = self.cluster.at(position).redis_client()
            if client.mget(keys) != self.client.mget(keys):
                raise dual.Difference(f"values at the {position}: {client.mget(keys)}, wanted {self.client.mget(keys)}")
            if sorted(client.keys()) != sorted(self.client.keys()):
                raise dual.Difference(f"keys at the {position}: {sorted(client.keys())}")
            for key in keys:
                mine, theirs = self.client.pexpiretime(key), client.pexpiretime(key)
                if abs(mine - theirs) > 300_000:
                    raise dual.Difference(f"deadline of {key!r} at the {position}: {theirs}, wanted {mine}")


@pytest.fixture(name="pair", scope="module")
def started_pair():
    with Cluster(nodes=3, backend="rocksdb") as cluster, StringDual(cluster, plain_args=("--databases", "1")) as pair:
        yield pair


@pytest.mark.parametrize("resp", [2, 3])
def test_a_chain_of_rocksdbs_answers_as_a_plain_redis(pair, resp):
    """CATENA_DUAL_SEED chooses another sequence; a difference tells its seed."""
    run = pair.run(int(os.environ.get("CATENA_DUAL_SEED", "1")) + resp, COMMANDS, resp)
    assert run.sent >= COMMANDS


def test_the_comparison_sees_a_difference(pair):
    pair.clear()
    pair.cluster.head().redis_client().set("a", "here only")
    with pytest.raises(dual.Difference, match="here only"):
        pair.compare_data()
    connection = pair.connections(2)[1]
    try:
        assert len(connection.run([[b"GET", b"a"], [b"PING"]])) == 1
        connection.plain.call("SET", "b", "x" * 30)
        connection.chain.call("SET", "b", "y" * 30)
        assert len(connection.run([[b"DUMP", b"b"]])) == 1
    finally:
        connection.close()


@pytest.mark.parametrize("position", dual.POSITIONS)
def test_a_scan_passes_what_stays_once_while_other_keys_come_and_go(pair, position):
    pair.clear()
    head, scanned = pair.cluster.head().redis_client(), pair.cluster.at(position).redis_client()
    staying = {b"k:%04d" % number for number in range(0, 1000, 2)}
    passing = [b"k:%04d" % number for number in range(1, 1000, 2)]
    head.mset({key: b"x" for key in staying})
    cursor, found, steps = 0, [], 0
    while cursor or not steps:
        cursor, keys = scanned.scan(cursor, count=20)
        found += keys
        # The last key of a step, at which the cursor stands, is among those that go.
        if steps % 2:
            head.delete(*passing)
        else:
            head.mset({key: b"y" for key in passing})
        steps += 1
        assert steps < 1000
    assert sorted(key for key in found if key in staying) == sorted(staying)
