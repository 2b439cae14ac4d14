"""What TLS costs: the same chain of three without, with it towards clients, and everywhere."""

from dataclasses import replace

from cluster import TLS_PARTS
from loader import Shape, fill
from rounds import Comparison
from throughput import PER_SECOND, contender

_LOADS = {"get_p1": Shape(mix="get=1"), "get_p16": Shape(mix="get=1", pipeline=16),
          "set_p1": Shape(mix="set=1"), "set_p16": Shape(mix="set=1", pipeline=16)}


class Encryption:
    def __init__(self, fleet, pace, output):
        del output
        self._fleet, self._pace = fleet, pace

    def tls(self):
        """All three run at once and are loaded in turn: reads at the middle, writes at the head."""
        plain = self._fleet.filled_chain(self._fleet.chain(3), Shape().size)
        with self._fleet.new_chain(3, tls=("clients",)) as clients, \
                self._fleet.new_chain(3, tls=TLS_PARTS) as everywhere:
            for chain in (clients, everywhere):
                fill(chain.head().clients, Shape().size, str(chain.authority.ca))
                chain.wait_position()
            for name, shape in _LOADS.items():
                subjects = {f"tls_{name}_clients": self._contender("TLS to clients", clients, shape),
                            f"tls_{name}_everywhere": self._contender("TLS everywhere", everywhere,
                                                                      shape)}
                rival = self._contender("no TLS", plain, shape)
                yield from Comparison(rival, subjects, PER_SECOND).rows(self._pace.rounds)

    def _contender(self, label, chain, shape):
        node = chain.head() if "set" in shape.mix else chain.middle()
        ca = str(chain.authority.ca) if chain.authority else ""
        return contender(label, node.clients, replace(shape, tls_ca=ca), PER_SECOND,
                         self._pace.seconds)
