"""What clients see over time while a node is killed or joins: an even load of reads and writes that
does not wait for anybody, so that a pause counts for every command that was due in it."""

import time
from contextlib import contextmanager

from loader import Load, Shape
from processes import wait_until
from rounds import row
from throttle import nodes_held_to

READS, WRITES = 2000, 500  # a second, of the open loops
_INTERVAL = 0.1            # seconds a point
_LEASE = 1.0               # the default in the TOML, what a failover is compared with
_CALM = 2.0                # seconds before and after a join
_SHARE = 0.08              # of a core for each node, where nodes are to be the limit


class Timelines:
    def __init__(self, fleet, pace, output):
        self._fleet, self._pace, self._output = fleet, pace, output

    # --- a node is killed ---

    def failover_head(self):
        yield from self._failover("head")

    def failover_middle(self):
        yield from self._failover("middle")

    def failover_tail(self):
        yield from self._failover("tail")

    def _failover(self, position):
        """Rows: the longest pause of writes and of reads at the survivors."""
        chain = self._fleet.filled_chain(self._fleet.chain(3), 64)
        victim = chain.at(position)
        survivors = [node.clients for node in chain.nodes if node is not victim]
        with _load(survivors, self._pace.failover_seconds) as (reading, writing):
            time.sleep(self._pace.failover_seconds / 3)
            killed = time.monotonic()
            victim.proxy.kill()
            reads, writes = reading.result(), writing.result()
        chain.wait_whole(members=2, without=[victim.id])
        victim.proxy.start()
        chain.wait_whole()
        self._output.series(f"failover_{position}", _points(reads, writes, {"killed": killed}))
        for what, result in (("writes", writes), ("reads", reads)):
            yield _pause_row(f"failover_{position}_{what}", result, f"{position} killed", _LEASE,
                             "lease")

    def craq_killed(self):
        """Read throughput, closed loop, while one of three equally slow nodes is killed and comes
        back: the paper's node failure at 15 s."""
        chain = self._fleet.filled_chain(self._fleet.chain(3), 500)
        victim = chain.middle()
        seconds = self._pace.killed_at * 3
        addresses = [node.clients for node in chain.nodes]
        with nodes_held_to(_SHARE, chain.nodes) as hold, \
                Load(addresses, Shape(size=500, connections=60), "--seconds", seconds, "--interval",
                     _INTERVAL, "--reconnect") as reading, \
                Load([chain.head().clients], Shape(mix="set=1", size=500, connections=4, rate=50),
                     "--seconds", seconds, "--interval", _INTERVAL, "--reconnect") as writing:
            time.sleep(self._pace.killed_at)
            killed = time.monotonic()
            victim.proxy.kill()
            time.sleep(self._pace.killed_at)
            returned = time.monotonic()
            victim.proxy.start()
            hold(victim)
            reads, writes = reading.result(), writing.result()
            chain.wait_whole()
        points = _points(reads, writes, {"killed": killed, "returned": returned})
        self._output.series("craq_killed", points)
        yield _before_and_after("craq_killed", points)

    # --- a node joins ---

    def join(self):
        """Rows: the slowest write and read while a node with much data joins, and how long it took."""
        chain = self._fleet.chain(3)
        size, joiner = self._pace.join_bytes, chain.tail()
        self._flush(chain)
        _fill(chain, size)
        self._empty(chain, joiner)
        rest = [node.clients for node in chain.nodes if node is not joiner]
        with _load(rest, 600) as (reading, writing):
            time.sleep(_CALM)
            began = time.monotonic()
            joiner.proxy.start()
            chain.wait_whole(timeout=300)
            whole = time.monotonic()
            time.sleep(_CALM)
            reads, writes = reading.end(), writing.end()
        self._flush(chain)
        points = _points(reads, writes, {"join begins": began, "whole": whole})
        self._output.series("join", points)
        label = f"while {size / 1e6:,.0f} MB join"
        begin, end = points["events"].values()
        for what in ("writes", "reads"):
            yield row(f"join_{what}_p99", label, "before", _p99(points[what], begin, end),
                      _p99(points[what], 0, begin), "ms (p99 of 0.1 s)")
        yield row("join_rate", label, "100 MB/s", [size / 1e6 / (whole - began)], [100.0], "MB/s")

    # --- parts ---

    def _flush(self, chain):
        chain.head().redis_client().flushall()
        self._fleet.forget_filled()

    @staticmethod
    def _empty(chain, node):
        """Out of the chain, with an empty Redis behind it."""
        node.proxy.stop()
        chain.wait_whole(members=2, without=[node.id])
        node.redis.restart()
        wait_until(lambda: _answers(node), 10, f"{node.redis.name} answers")


@contextmanager
def _load(addresses, seconds):
    """Reads and writes at fixed rates, two Loads."""
    common = ["--seconds", seconds, "--warmup", 0, "--interval", _INTERVAL, "--reconnect"]
    reads = Shape(connections=10, rate=READS, pipeline=1000)
    writes = Shape(mix="set=1", connections=10, rate=WRITES, pipeline=1000)
    with Load(addresses, reads, *common) as reading, Load(addresses, writes, *common) as writing:
        yield reading, writing


def _answers(node):
    import redis  # pylint: disable=import-outside-toplevel
    try:
        return node.direct_client().ping()
    except redis.RedisError:
        return False


def _fill(chain, size):
    """Keys of 10 kB through the chain until it holds so many bytes."""
    count = max(1, size // 10_000)
    shape = Shape(mix="set=1", keys="sequential", connections=4, pipeline=16, size=10_000,
                  key_count=count)
    with Load([chain.head().clients], shape, "--operations", count) as load:
        load.result()
    chain.wait_position(timeout=120)


def _points(reads, writes, events):
    """For a plot: the timelines of both loads, and when (time.monotonic()) what happened."""
    start = reads["start_ns"] / 1e9  # of the same clock
    return {"events": {name: round(at - start, 3) for name, at in events.items()},
            "reads": reads["timeline"], "writes": writes["timeline"],
            "errors": {"reads": reads["errors"], "writes": writes["errors"]}}


def _pause_row(name, result, subject, rival_value, rival):
    each = row(name, subject, rival, [result["latency_us"]["max"] / 1e6], [rival_value],
               "s (longest wait)")
    each["errors"] = result["errors"]
    return each


def _p99(timeline, begin, end):
    """Of each interval between two times, in milliseconds."""
    return [point["p99"] / 1000 for point in timeline if begin <= point["at"] < end - _INTERVAL]


def _before_and_after(name, points):
    """Read throughput with one node of three missing, beside that of the whole chain."""
    def rates(begin, end):
        return [point["reads"] / _INTERVAL for point in points["reads"]
                if begin <= point["at"] < end - _INTERVAL]

    killed, returned = points["events"].values()
    # A node is missed until its lease is over; then the others go on without it.
    return row(name, "two of three nodes", "three nodes", rates(killed + 1.5 * _LEASE, returned),
               rates(0.5, killed), "reads/s")
