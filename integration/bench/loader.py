"""Runs catena-load, the generator in generator/, and checks that what it measured is sound."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cluster import binary_directory  # noqa: E402
from processes import Failed  # noqa: E402

FILL_BYTES = 64 << 20  # of values in a server, at most


@dataclass(frozen=True)
class Shape:
    """What a load looks like, apart from whom it goes to."""
    mix: str = "get=1"
    connections: int = 50
    pipeline: int = 1
    size: int = 64
    keys: str = "uniform"
    wait: int = 0
    rate: float = 0
    first: str = ""
    key_count: int = 0  # 0: as many as fill() makes
    tls_ca: str = ""    # of those that speak TLS

    @property
    def prefix(self):
        return f"v{self.size}:"

    def key(self, number):
        """As catena-load names it."""
        return f"{self.prefix}{number:012d}"

    @property
    def count(self):
        return self.key_count or key_count(self.size)


def key_count(size):
    return max(1, min(100_000, FILL_BYTES // size))


def _argv(addresses, shape, extra):
    argv = [str(binary_directory() / "catena-load")]
    for address in addresses:
        argv += ["--to", address]
    argv += ["--mix", shape.mix, "--connections", str(shape.connections), "--pipeline",
             str(shape.pipeline), "--bytes", str(shape.size), "--keys", shape.keys, "--key-prefix",
             shape.prefix, "--key-count", str(shape.count), "--rate", str(shape.rate)]
    if shape.wait:
        argv += ["--wait", str(shape.wait)]
    if shape.tls_ca:
        argv += ["--tls-ca", shape.tls_ca]
    if shape.first:
        argv += ["--first", shape.first]
    return argv + [str(word) for word in extra]


class Load:
    """A load in the background; end() stops it early, result() waits for its end."""

    def __init__(self, addresses, shape, *extra):
        self._argv = _argv(addresses, shape, extra)
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def end(self):
        self._process.send_signal(signal.SIGTERM)
        return self.result()

    def result(self, timeout=600):
        output, problem = self._process.communicate(timeout=timeout)
        if self._process.returncode != 0:
            raise Failed(f"{problem.strip()} (of {' '.join(self._argv)})")
        return json.loads(output)


def measure(addresses, shape, seconds, *extra):
    """One run whose every answer is good: no errors, no key missing, no write on too few replicas."""
    with Load(addresses, shape, "--seconds", seconds, *extra) as load:
        result = load.result(seconds + 60)
    problem = (result["errors"] or result["misses"] and f"{result['misses']} keys not found" or
               result["short_waits"] and f"{result['short_waits']} writes on too few replicas" or
               not result["operations"] and "no operation was answered")
    if problem:
        raise Failed(f"{', '.join(addresses)} under {shape}: {problem} {result['first_error']}")
    return result


def fill(address, size, tls_ca=""):
    """Sets all keys that loads with values of this size touch."""
    count = key_count(size)
    shape = Shape(mix="set=1", keys="sequential", connections=4, pipeline=min(100, count), size=size,
                  tls_ca=tls_ca)
    with Load([address], shape, "--operations", count) as load:
        result = load.result()
    if result["errors"]:
        raise Failed(f"{address}: {result['first_error']}")
