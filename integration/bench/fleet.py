"""The servers that are measured, each started when it is first asked for and filled with keys."""

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cluster import Cluster, free_base_port  # noqa: E402
from processes import Failed, Process, stop_all, wait_until  # noqa: E402

import loader  # noqa: E402
import redis  # noqa: E402

_TWEMPROXY = """bench:
  listen: {listen}
  hash: fnv1a_64
  distribution: ketama
  redis: true
  servers:
    - {server}:1
"""


class Fleet:
    """Use as a `with` statement; everything ends with it.

    addresses of plain(), replicated() and twemproxy(); chains by their length. filled() sets the
    keys that loads of a size touch, once for each server.
    """

    def __init__(self):
        self._directory = Path(tempfile.mkdtemp(prefix="catena-bench-"))
        self._processes = {}  # name -> Process
        self._chains = {}     # length -> Cluster
        self._filled = set()
        self.base_port = free_base_port()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for cluster in self._chains.values():
            cluster.stop()
        stop_all(list(self._processes.values()), 10)
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- servers ---

    def plain(self):
        return self._redis("plain", 0)

    def replicated(self):
        """A Redis with two ordinary replicas."""
        master = self._redis("master", 1)
        if "replica1" not in self._processes:
            for number in (1, 2):
                self._redis(f"replica{number}", 1 + number,
                            ["--replicaof", *master.rsplit(":", 1)])
            with self.client(master, single_connection_client=True) as client:
                # Replicas count as connected before they take what is written.
                client.set("replicated", "yes")
                wait_until(lambda: client.wait(2, 100) == 2, 20, "two replicas have a write")
        return master

    def twemproxy(self):
        """nutcracker before the plain Redis; None where Debian's package is not installed."""
        program = shutil.which("nutcracker")
        if not program:
            return None
        address = f"127.0.0.1:{self.base_port + 5}"
        if "twemproxy" not in self._processes:
            config = self._directory / "nutcracker.yml"
            config.write_text(_TWEMPROXY.format(listen=address, server=self.plain()))
            self._start("twemproxy", [program, "-c", str(config), "-a", "127.0.0.1", "-s",
                                      str(self.base_port + 6)])
            wait_until(lambda: self._answers(address), 10, "twemproxy answers")
        return address

    def chain(self, length):
        if length not in self._chains:
            self._chains[length] = Cluster(nodes=length)
            self._chains[length].start()
        return self._chains[length]

    @staticmethod
    @contextmanager
    def new_chain(length, start=True, **options):
        """One that nobody has used, for a `with` statement; perhaps to be started within it.
        options: of Cluster."""
        cluster = Cluster(nodes=length, **options)
        try:
            if start:
                cluster.start()
            yield cluster
        finally:
            cluster.stop()

    def processes_of(self, name):
        """Those behind plain(), replicated() or twemproxy(), by role."""
        names = {"plain": ["plain"], "replicated": ["master", "replica1", "replica2"],
                 "twemproxy": ["twemproxy", "plain"]}[name]
        return {each: self._processes[each] for each in names}

    # --- their keys ---

    def filled(self, address, size):
        """The address, when the keys of that size are there."""
        if (address, size) not in self._filled:
            loader.fill(address, size)
            self._filled.add((address, size))
        return address

    def filled_chain(self, cluster, size):
        """The same through a chain's head; every node then has them."""
        self.filled(cluster.head().clients, size)
        cluster.wait_position()
        return cluster

    def forget_filled(self):
        """After a measurement that emptied servers."""
        self._filled.clear()

    @staticmethod
    def client(address, **options):
        host, port = address.rsplit(":", 1)
        options.setdefault("socket_timeout", 30)
        return redis.Redis(host=host, port=int(port), **options)

    # --- processes ---

    def _redis(self, name, offset, extra=()):
        address = f"127.0.0.1:{self.base_port + offset}"
        if name not in self._processes:
            data = self._directory / name
            data.mkdir()
            self._start(name, ["redis-server", "--port", str(self.base_port + offset), "--bind",
                               "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(data),
                               "--repl-diskless-sync-delay", "0", *extra])
            wait_until(lambda: self._answers(address), 10, f"{name} answers")
        return address

    def _start(self, name, argv):
        process = Process(name, argv, self._directory / f"{name}.log")
        process.start()
        self._processes[name] = process

    def _answers(self, address):
        for process in self._processes.values():
            if not process.running():
                raise Failed(f"{process.name} ended:\n{process.log_tail()}")
        try:
            # Not PING: twemproxy 0.5 answers few commands that have no key.
            return self.client(address).exists("nothing") == 0
        except redis.RedisError:
            return False
