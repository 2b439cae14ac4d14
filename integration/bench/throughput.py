"""Throughput and latency beside what people would use instead: what the targets speak of, and the
grid of chain lengths, positions, modes, commands, pipelines, connections and sizes."""

from dataclasses import replace

from loader import Shape, measure
from rounds import Comparison, Contender

PER_SECOND, MICROSECONDS = "requests/s", "us (p50)"
_GET, _SET = Shape(mix="get=1"), Shape(mix="set=1")
_ONE = {"connections": 1}
_DEEP = {"pipeline": 16}


class Targets:
    """Each method is a measurement of `--only`: a Comparison."""

    def __init__(self, fleet, pace):
        self._fleet, self._pace = fleet, pace

    # --- reads ---

    def get_p1(self):
        return self._reads("get_p1", _GET, PER_SECOND)

    def get_p16(self):
        return self._reads("get_p16", replace(_GET, **_DEEP), PER_SECOND)

    def get_latency(self):
        return self._reads("get_latency", replace(_GET, **_ONE), MICROSECONDS)

    def _reads(self, name, shape, unit):
        chain = self._fleet.filled_chain(self._fleet.chain(3), shape.size)
        plain = self._fleet.filled(self._fleet.plain(), shape.size)
        subjects = {name: self._contender("Catena, follower", chain.middle().clients, shape, unit)}
        if unit == PER_SECOND:
            subjects[f"{name}_head"] = self._contender("Catena, head", chain.head().clients, shape,
                                                       unit)
        if twemproxy := self._fleet.twemproxy():
            subjects[f"{name}_twemproxy"] = self._contender("twemproxy", twemproxy, shape, unit)
        return Comparison(self._contender("plain Redis", plain, shape, unit), subjects, unit)

    # --- writes ---

    def set_c50(self):
        return self._writes("set_c50", _SET, PER_SECOND, wait=2)

    def set_latency(self):
        return self._writes("set_latency", replace(_SET, **_ONE), MICROSECONDS, wait=2)

    def set_p16(self):
        return self._writes("set_p16", replace(_SET, **_DEEP), PER_SECOND, wait=0)

    def _writes(self, name, shape, unit, wait):
        head = self._fleet.chain(3).head().clients
        label = "Redis + 2 replicas, WAIT 2" if wait else "Redis + 2 async replicas"
        rival = self._contender(label, self._fleet.replicated(), replace(shape, wait=wait), unit)
        return Comparison(rival, {name: self._contender("Catena x3, head", head, shape, unit)},
                          unit)

    def _contender(self, label, address, shape, unit):
        return contender(label, address, shape, unit, self._pace)


def contender(label, address, shape, unit, pace):
    def run():
        result = measure([address], shape, pace.seconds)
        return result["rate"] if unit == PER_SECOND else result["latency_us"]["p50"]

    return Contender(label, run)
