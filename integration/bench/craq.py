"""The gains that the CRAQ paper reports (Terrace & Freedman, USENIX ATC 2009, section 6), measured on
Catena against its own `tail` mode, which is plain chain replication: every read at the tail.

All nodes share this machine, so each (proxy and Redis together) is held to the same small quota of a
core; a chain of n nodes then has n times one node's power, as on n machines."""

import statistics
from dataclasses import dataclass, replace

from fleet import Fleet
from loader import Load, Shape, measure
from rounds import Comparison, Contender, row
from throttle import nodes_held_to
from throughput import PER_SECOND

SHARE = 0.08          # of a core for each node
CONNECTIONS = 50      # that read at each node; fewer find it now busy, now idle: two speeds
TAIL_MODE = "CATENA CONSISTENCY tail"
# The paper's own axis is 0 to 100 writes a second against some thousands of reads at a chain's
# tail, and its gain at three nodes is about 2 at the right end. These are such shares of the reads
# that one node can do here, and further.
PAPER_RATE = 0.02
_SOON = 0.1           # warm-up of readers, seconds


@dataclass
class _Reads:
    """Where readers of one kind go."""
    label: str
    nodes: list
    first: str = ""

    def rate(self, shape, seconds):
        addresses = [node.clients for node in self.nodes]
        spread = replace(shape, connections=CONNECTIONS * len(addresses), first=self.first)
        return measure(addresses, spread, seconds, "--warmup", _SOON)["rate"]


def _kinds(chain):
    members = chain.members()
    return (_Reads(f"CRAQ, reads at {len(members)}", members),
            _Reads("tail mode, reads at the tail", members[-1:], TAIL_MODE))


class Craq:
    def __init__(self, fleet: Fleet, pace, output):
        self._fleet, self._pace, self._output = fleet, pace, output

    # --- more nodes, more reads ---

    def craq_reads(self):
        """Read throughput of chains of several lengths, without writes."""
        series = []
        for length in self._pace.lengths:
            chain = self._fleet.filled_chain(self._fleet.chain(length), 500)
            with nodes_held_to(SHARE, chain.nodes):
                for each in self._compare_reads(chain, f"craq_reads_x{length}", Shape(size=500)):
                    series.append({"nodes": length, "craq": each["subject_value"],
                                   "tail": each["rival_value"]})
                    yield each
        self._output.series("craq_reads", series)

    def _compare_reads(self, chain, name, shape):
        apportioned, at_tail = (Contender(kind.label, lambda kind=kind: kind.rate(
            shape, self._pace.seconds)) for kind in _kinds(chain))
        yield from Comparison(at_tail, {name: apportioned}, PER_SECOND).rows(self._pace.rounds)

    # --- reads while a writer raises its rate ---

    def craq_hot_500(self):
        """Everybody reads and writes one key: the worst case, a read is often dirty."""
        yield from self._under_writes("craq_hot_500", Shape(size=500, key_count=1))

    def craq_uniform_500(self):
        yield from self._under_writes("craq_uniform_500", Shape(size=500))

    def craq_hot_5000(self):
        yield from self._under_writes("craq_hot_5000", Shape(size=5000, key_count=1))

    def _under_writes(self, name, shape):
        for length in self._pace.write_lengths:
            yield from self._beside_rates(name if length == 3 else f"{name}_x{length}", shape,
                                          length)

    def _beside_rates(self, name, shape, length):
        chain = self._fleet.filled_chain(self._fleet.chain(length), shape.size)
        series = []
        with nodes_held_to(SHARE, chain.nodes):
            _, at_tail = _kinds(chain)
            capacity = at_tail.rate(shape, self._pace.seconds)
            for share in self._pace.write_shares:
                each, point = self._at_write_rate(chain, f"{name}_w{100 * share:g}", shape,
                                                  share * capacity)
                series.append(point)
                yield each
        self._output.series(name, series)

    def _at_write_rate(self, chain, name, shape, rate):
        """(row, point of the series) with a writer at the head beside the readers."""
        kinds = _kinds(chain)
        values, written, clean, dirty = {kind.label: [] for kind in kinds}, [], 0, 0
        for turn in range(self._pace.rounds):
            for kind in kinds if turn % 2 == 0 else reversed(kinds):
                before = _reads_of(chain)
                value, writes = self._beside_writer(chain, kind, shape, rate)
                values[kind.label].append(value)
                written += writes
                if not kind.first:
                    after = _reads_of(chain)
                    clean, dirty = clean + after[0] - before[0], dirty + after[1] - before[1]
        craq, tail = kinds[0].label, kinds[1].label
        result = row(name, craq, tail, values[craq], values[tail], PER_SECOND)
        result["writes_per_second"] = round(statistics.median(written)) if written else 0
        result["dirty_share"] = round(dirty / max(1, clean + dirty), 4)
        point = {"asked": rate, "writes": result["writes_per_second"],
                 "craq": result["subject_value"], "tail": result["rival_value"],
                 "dirty": result["dirty_share"]}
        return result, point

    def _beside_writer(self, chain, kind, shape, rate):
        """(reads a second, [writes a second])"""
        if rate == 0:
            return kind.rate(shape, self._pace.seconds), []
        writes = replace(shape, mix="set=1", rate=rate, connections=4, pipeline=64)
        with Load([chain.head().clients], writes, "--seconds", 600) as writer:
            value = kind.rate(shape, self._pace.seconds)
            written = writer.end()
        return value, [written["rate"]]


def _reads_of(chain):
    """(clean, dirty) reads of all nodes so far."""
    infos = [node.redis_client().info("catena") for node in chain.nodes]
    return (sum(info["catena_reads_clean"] for info in infos),
            sum(info["catena_reads_dirty"] for info in infos))
