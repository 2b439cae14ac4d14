"""The generator against redis-benchmark, at the same plain Redis: a generator that is slower than what
it loads would measure itself."""

import csv
import io
import subprocess

from loader import Shape
from rounds import Comparison, Contender
from throughput import MICROSECONDS, PER_SECOND, contender


class Yardstick:
    def __init__(self, fleet, pace, output):
        del output
        self._fleet, self._pace = fleet, pace

    def generator(self):
        plain = self._fleet.filled(self._fleet.plain(), 64)
        for name, shape, requests, unit in (
                ("generator_p1", Shape(), 100_000, PER_SECOND),
                ("generator_p16", Shape(pipeline=16), 800_000, PER_SECOND),
                ("generator_latency", Shape(connections=1), 30_000, MICROSECONDS)):
            theirs = self._redis_benchmark(plain, shape, requests, unit)
            ours = contender("catena-load", plain, shape, unit, self._pace.seconds)
            yield from Comparison(theirs, {name: ours}, unit).rows(self._pace.rounds)

    def _redis_benchmark(self, address, shape, requests, unit):
        count = max(1000, int(requests * self._pace.seconds))
        host, port = address.rsplit(":", 1)
        # Its __rand_int__ has twelve digits, as the keys that were filled in.
        argv = ["redis-benchmark", "-h", host, "-p", port, "-n", str(count), "-c",
                str(shape.connections), "-P", str(shape.pipeline), "-r", str(shape.count), "--csv",
                "GET", f"{shape.prefix}__rand_int__"]

        def run():
            output = subprocess.run(argv, check=True, capture_output=True, text=True,
                                    timeout=300).stdout
            row = list(csv.DictReader(io.StringIO(output)))[0]
            return float(row["rps"]) if unit == PER_SECOND else 1000 * float(row["p50_latency_ms"])

        return Contender("redis-benchmark", run)
