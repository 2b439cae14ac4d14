"""Instructions that an operation costs in user space, by callgrind: the same on every machine, however
busy it is. The kernel's are not among them."""

import re
import shutil
import subprocess
from dataclasses import replace

from loader import Load, Shape
from processes import Failed
from rounds import row

_UNIT = "instructions/op"
_ALONE = {"connections": 1}
_TOGETHER = {"connections": 50, "pipeline": 16}


class Traced:
    """A process of a chain that has not been started, to be run under callgrind."""

    def __init__(self, process, directory):
        if not shutil.which("valgrind"):
            raise Failed("instructions: valgrind is not installed (apt-get install valgrind)")
        self._process, self._file = process, directory / f"callgrind-{process.name}"
        self._dumps = 0
        process.argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self._file}",
                        *process.argv]

    def count(self):
        """Since it was asked before, or since its start."""
        subprocess.run(["vgdb", f"--pid={self._process.pid}", "dump"], check=True,
                       capture_output=True, timeout=60)
        self._dumps += 1
        text = (self._file.parent / f"{self._file.name}.{self._dumps}").read_text()
        return int(re.search(r"^totals: (\d+)", text, re.M)[1])

    def per_operation(self, address, shape, count):
        self.count()
        with Load([address], shape, "--operations", count) as load:
            load.result()
        return self.count() / count


class Instructions:
    def __init__(self, fleet, pace, output):
        del output
        self._fleet, self._pace = fleet, pace

    def instructions(self):
        """Alone: one connection; together: 50, pipelines of 16."""
        three = {}
        with self._fleet.new_chain(3, start=False) as chain:
            proxy, redis = (Traced(process, chain.directory) for process in
                            (chain.nodes[1].proxy, chain.nodes[0].redis))
            chain.start()
            head, middle, backend = (chain.nodes[0].clients, chain.nodes[1].clients,
                                     chain.nodes[0].backend)
            for name, shape in _shapes("get"):
                yield row(f"instructions_{name}", "follower's proxy", "Redis",
                          [self._count(proxy, middle, shape)],
                          [self._count(redis, backend, shape)], _UNIT)
            for name, shape in _shapes("set"):
                three[name] = self._count(proxy, head, shape)
                yield row(f"instructions_{name}", "middle proxy", "Redis", [three[name]],
                          [self._count(redis, backend, shape)], _UNIT)
        yield from self._in_longest(three)

    def _in_longest(self, three):
        length = self._pace.lengths[-1]
        with self._fleet.new_chain(length, start=False) as chain:
            proxy = Traced(chain.nodes[1].proxy, chain.directory)
            chain.start()
            for name, shape in _shapes("set"):
                yield row(f"instructions_{name}_x{length}", f"a middle proxy of {length}", "of 3",
                          [self._count(proxy, chain.nodes[0].clients, shape)], [three[name]], _UNIT)

    def _count(self, traced, address, shape):
        # Enough for the heartbeats meanwhile to count for little.
        count = 4 * self._pace.traced_operations * shape.pipeline
        return traced.per_operation(address, shape, count)


def _shapes(mix):
    for name, load in (("alone", _ALONE), ("together", _TOGETHER)):
        yield f"{mix}_{name}", replace(Shape(mix=f"{mix}=1"), **load)
