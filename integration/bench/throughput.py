"""Throughput and latency beside what people would use instead: what the targets speak of, and a grid
of chain lengths, positions, modes, commands, pipelines, connections and sizes."""

import itertools
from dataclasses import dataclass, replace

from loader import Shape, measure
from rounds import Comparison, Contender

PER_SECOND, MICROSECONDS = "requests/s", "us (p50)"
_WARMUP = 0.1
_GET, _SET = Shape(mix="get=1"), Shape(mix="set=1")
MIXES = {"get": "get=1", "set": "set=1", "mix": "get=90,set=10"}


def contender(label, address, shape, unit, seconds):
    def run():
        result = measure([address], shape, seconds, "--warmup", _WARMUP)
        return result["rate"] if unit == PER_SECOND else result["latency_us"]["p50"]

    return Contender(label, run)


class Targets:
    """Each method is a measurement that a target speaks of; it yields rows."""

    def __init__(self, fleet, pace, output):
        del output
        self._fleet, self._pace = fleet, pace

    def get_p1(self):
        return self._reads("get_p1", _GET, PER_SECOND)

    def get_p16(self):
        return self._reads("get_p16", replace(_GET, pipeline=16), PER_SECOND)

    def get_latency(self):
        return self._reads("get_latency", replace(_GET, connections=1), MICROSECONDS)

    def set_c50(self):
        return self._writes("set_c50", _SET, PER_SECOND, wait=2)

    def set_latency(self):
        return self._writes("set_latency", replace(_SET, connections=1), MICROSECONDS, wait=2)

    def set_p16(self):
        return self._writes("set_p16", replace(_SET, pipeline=16), PER_SECOND, wait=0)

    def _reads(self, name, shape, unit):
        chain = self._fleet.filled_chain(self._fleet.chain(3), shape.size)
        plain = self._fleet.filled(self._fleet.plain(), shape.size)
        subjects = {name: self._contender("Catena, follower", chain.middle().clients, shape, unit)}
        if unit == PER_SECOND:
            subjects[f"{name}_head"] = self._contender("Catena, head", chain.head().clients, shape,
                                                       unit)
        if twemproxy := self._fleet.twemproxy():
            subjects[f"{name}_twemproxy"] = self._contender("twemproxy", twemproxy, shape, unit)
        rival = self._contender("plain Redis", plain, shape, unit)
        yield from Comparison(rival, subjects, unit).rows(self._pace.target_rounds)

    def _writes(self, name, shape, unit, wait):
        head = self._fleet.chain(3).head().clients
        label = "Redis + 2 replicas, WAIT 2" if wait else "Redis + 2 async replicas"
        rival = self._contender(label, self._fleet.replicated(), replace(shape, wait=wait), unit)
        subject = self._contender("Catena x3, head", head, shape, unit)
        yield from Comparison(rival, {name: subject}, unit).rows(self._pace.target_rounds)

    def _contender(self, label, address, shape, unit):
        return contender(label, address, shape, unit, self._pace.seconds)


@dataclass(frozen=True)
class Axes:
    """What the grid spans; the first value of each axis is the common point. Chains are measured at
    every position in turn."""
    lengths: tuple = (3, 1, 5, 7)
    positions: tuple = ("head", "middle", "tail")
    modes: tuple = ("linearizable", "sequential", "eventual", "tail")
    mixes: tuple = ("get", "set", "mix")
    pipelines: tuple = (1, 16)
    connections: tuple = (50, 1, 500)
    sizes: tuple = (64, 1024, 16384)
    product: bool = False  # every combination; else each axis by itself, from the common point

    def cells(self):
        """(mix, length, mode, pipeline, connections, size), each once."""
        axes = (self.lengths, self.modes, self.pipelines, self.connections, self.sizes)
        if self.product:
            points = list(itertools.product(*axes))
        else:
            common = tuple(axis[0] for axis in axes)
            points = [common] + [(*common[:i], value, *common[i + 1:])
                                 for i, axis in enumerate(axes) for value in axis[1:]]
        # How a connection reads is nothing to one that only writes.
        return [(mix, *point) for mix in self.mixes for point in points
                if mix != "set" or point[1] == "linearizable"]


class Grid:
    def __init__(self, fleet, pace, output):
        del output
        self._fleet, self._pace = fleet, pace

    def grid(self):
        """Everybody against plain Redis. Writes to the rivals with replicas also with WAIT 2."""
        for mix, length, mode, pipeline, connections, size in self._pace.axes.cells():
            shape = Shape(mix=MIXES[mix], connections=connections, pipeline=pipeline, size=size)
            name = f"grid_{mix}_p{pipeline}_c{connections}_{size}b"
            subjects = self._chain_subjects(f"{name}_x{length}", shape, length, mode)
            if (length, mode) == (self._pace.axes.lengths[0], "linearizable"):
                subjects.update(self._rivals(name, shape))
            rival = self._contender("plain Redis", self._fleet.filled(self._fleet.plain(), size),
                                    shape)
            yield from Comparison(rival, subjects, PER_SECOND).rows(self._pace.grid_rounds)

    def _chain_subjects(self, name, shape, length, mode):
        chain = self._fleet.filled_chain(self._fleet.chain(length), shape.size)
        if mode != "linearizable":
            shape = replace(shape, first=f"CATENA CONSISTENCY {mode}")
            name = f"{name}_{mode}"
        positions = self._pace.axes.positions if length > 1 else ("head",)
        return {f"{name}_{position}": self._contender(
            f"Catena x{length}, {position}" + f", {mode}" * (mode != "linearizable"),
            chain.at(position).clients, shape) for position in positions}

    def _rivals(self, name, shape):
        master = self._fleet.filled(self._fleet.replicated(), shape.size)
        rivals = {f"{name}_async": self._contender("Redis + 2 async replicas", master, shape)}
        if "set" in shape.mix:
            rivals[f"{name}_wait2"] = self._contender("Redis + 2 replicas, WAIT 2", master,
                                                      replace(shape, wait=2))
        if twemproxy := self._fleet.twemproxy():
            rivals[f"{name}_twemproxy"] = self._contender("twemproxy", twemproxy, shape)
        return rivals

    def _contender(self, label, address, shape):
        return contender(label, address, shape, PER_SECOND, self._pace.seconds)
