"""A chain with RocksDB in its proxies beside a program that uses one RocksDB itself, and beside a chain
of Redis servers; the data larger than the database's cache."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from cluster import Cluster, binary_directory
from loader import Load, Shape
from processes import Failed
from rounds import Comparison, Contender
from throughput import PER_SECOND, contender

OPERATIONS = {"get": "get=1", "set": "set=1", "mget": "mget=1"}
SIZES = (100, 4096)
PIPELINES = (1, 16)
CACHE_SHARE = 8  # the data is so many times the cache
_CONNECTIONS = 50
_SECONDS_MIN = 1.0  # of a round: 50 pipelines of large answers take a while


class Embedded:
    def __init__(self, fleet, pace, output):
        del fleet, output
        self._pace = replace(pace, seconds=max(pace.seconds, _SECONDS_MIN))

    def rocksdb(self):
        """GET, SET and MGET of ten keys, 100 bytes and 4 KB, P=1 and 16. What is alone calls the
        library from 50 threads, 16 operations in one call for P=16."""
        for size in SIZES:
            with _Rivals(size, self._pace) as rivals:
                for operation, mix in OPERATIONS.items():
                    for pipeline in PIPELINES:
                        shape = Shape(mix=mix, connections=_CONNECTIONS, pipeline=pipeline, size=size,
                                      key_count=rivals.count)
                        name = f"rocksdb_{operation}_p{pipeline}_{size}b"
                        yield from rivals.compare(name, operation, shape)


class _Rivals:
    """The three (and a fourth that syncs at intervals), each filled with the same keys."""

    def __init__(self, size, pace):
        self._pace = pace
        self._directory = Path(tempfile.mkdtemp(prefix="catena-bench-"))
        self._size = size
        self.count = pace.embedded_bytes // size
        self._cache = max(1 << 20, pace.embedded_bytes // CACHE_SHARE)
        self._chains = []
        self._alone = self._directory / "alone"

    def __enter__(self):
        try:
            self._fill(self._alone)
            self._always, self._interval = (self._chain("rocksdb", sync=sync)
                                            for sync in ("always", "interval"))
            self._redis = self._chain("redis")
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for cluster in self._chains:
            cluster.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def compare(self, name, operation, shape):
        subjects = {name: self._served("RocksDB x3", self._always, operation, shape),
                    f"{name}_redis": self._served("Redis x3, on no disk", self._redis, operation,
                                                  shape)}
        rival = self._direct("one RocksDB, alone", operation, shape, ["--sync"])
        yield from Comparison(rival, subjects, PER_SECOND).rows(self._pace.rounds)
        if operation == "set":
            subjects = {f"{name}_interval": self._served("RocksDB x3, sync at intervals",
                                                         self._interval, operation, shape)}
            rival = self._direct("one RocksDB without sync", operation, shape, [])
            yield from Comparison(rival, subjects, PER_SECOND).rows(self._pace.rounds)

    def _served(self, label, cluster, operation, shape):
        node = cluster.head() if operation == "set" else cluster.middle()
        return contender(label, node.clients, shape, PER_SECOND, self._pace.seconds)

    def _direct(self, label, operation, shape, extra):
        argv = ["bench", self._alone, "--operation", operation, "--group", shape.pipeline,
                "--threads", _CONNECTIONS, "--seconds", self._pace.seconds, "--key-prefix",
                shape.prefix, "--key-count", self.count, "--bytes", self._size, "--cache-bytes",
                self._cache, *extra]
        return Contender(label, lambda: json.loads(_run(argv))["rate"])

    def _fill(self, directory):
        _run(["fill", directory, "--key-prefix", Shape(size=self._size).prefix, "--key-count",
              self.count, "--bytes", self._size])

    def _chain(self, backend, sync=None):
        settings = {"chain.rocksdb.block_cache": f"{self._cache}b", "chain.rocksdb.sync": sync}
        cluster = Cluster(nodes=3, backend=backend, settings=settings if sync else {})
        self._chains.append(cluster)
        if backend == "rocksdb":
            self._fill(cluster.nodes[0].backend)
        cluster.start(timeout=300)
        if backend == "redis":
            shape = Shape(mix="set=1", keys="sequential", connections=4, pipeline=100, size=self._size,
                          key_count=self.count)
            with Load([cluster.head().clients], shape, "--operations", self.count) as load:
                if load.result()["errors"]:
                    raise Failed("the chain of Redis servers could not be filled")
        return cluster


def _run(arguments):
    argv = [str(binary_directory() / "rocksdb-direct"), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
