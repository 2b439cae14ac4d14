"""What an operation costs each process, apart from how fast it is: CPU time, system calls, memory,
bytes on the links; and what a chain costs that does nothing."""

import socket
import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from cluster import http_get
from kernel import CpuMeter, Sockets, system_calls
from loader import Load, Shape, measure
from rounds import row

_GET, _SET = Shape(mix="get=1"), Shape(mix="set=1")
_CPU, _BYTES, _CALLS = "us CPU/op", "bytes/op", "calls/op"
IDLE_CPU_BOUND, IDLE_MESSAGES_BOUND = 0.5, 100
_LINK_RATE = 3000  # writes a second
_BACKLOG_BYTES = 64_000_000  # the default of chain.limits.backlog_bytes
_CLIENTS = 500  # idle ones, for the memory of one


class Cost:
    def __init__(self, fleet, pace, output):
        self._fleet, self._pace, self._output = fleet, pace, output

    # --- nothing to do ---

    def idle(self):
        """First of all parts, so that the chain is young and nobody has been there."""
        chain = self._fleet.chain(3)
        proxies = {node.id: node.proxy.pid for node in chain.nodes}
        time.sleep(1)  # what the start left behind
        meter, before = CpuMeter(proxies), Sockets(chain.base_port)
        time.sleep(self._pace.idle_seconds)
        spent, after = meter.spent(), Sockets(chain.base_port)
        seconds = after.at - before.at
        shares = [100 * each / seconds for each in spent.values()]
        yield row("idle_cpu", "idle proxy", "bound", shares, [IDLE_CPU_BOUND], "% of a core")
        _, segments = after.since(before)
        sent = sum(count for link, count in segments.items() if link[0] in proxies.values())
        yield row("idle_messages", "idle chain of 3, all proxies", "bound", [sent / seconds],
                  [IDLE_MESSAGES_BOUND], "messages/s")

    # --- CPU ---

    def cpu_get(self):
        """At full speed, 50 connections."""
        yield from self._cpu_reads("cpu_get_p1", _GET)
        yield from self._cpu_reads("cpu_get_p16", replace(_GET, pipeline=16))

    def _cpu_reads(self, name, shape):
        node = self._fleet.filled_chain(self._fleet.chain(3), shape.size).middle()
        plain = self._fleet.filled(self._fleet.plain(), shape.size)
        redis_pid = self._fleet.processes_of("plain")["plain"].pid
        subjects = {"proxy": (node.clients, {"proxy": node.proxy.pid, "redis": node.redis.pid}),
                    "plain": (plain, {"redis": redis_pid})}
        if twemproxy := self._fleet.twemproxy():
            pid = self._fleet.processes_of("twemproxy")["twemproxy"].pid
            subjects["twemproxy"] = (twemproxy, {"twemproxy": pid})
        costs = self._cpu_rounds(subjects, shape)
        rival = ("plain Redis", costs["plain"]["redis"])
        yield _cpu_row(name, ("follower's proxy", costs["proxy"]["proxy"]), rival)
        yield _cpu_row(f"{name}_redis", ("Redis behind it", costs["proxy"]["redis"]), rival)
        if twemproxy:
            yield _cpu_row(f"{name}_twemproxy", ("twemproxy", costs["twemproxy"]["twemproxy"]),
                           rival)

    def cpu_set(self):
        """At full speed, 50 connections: each process of a chain of three."""
        chain = self._fleet.chain(3)
        master = self._fleet.replicated()
        replicated = {name: p.pid for name, p in self._fleet.processes_of("replicated").items()}
        subjects = {"chain": (chain.head().clients, _pids(chain)),
                    "replicated": (master, replicated)}
        for name, shape in (("cpu_set_p1", _SET), ("cpu_set_p16", replace(_SET, pipeline=16))):
            costs = self._cpu_rounds(subjects, shape)
            for process, values in costs["chain"].items():
                rival = "replica1" if process.endswith("redis") and "head" not in process else \
                    "master"
                yield _cpu_row(f"{name}_{process.replace(' ', '_')}", (process, values),
                               (f"Redis: {rival}", costs["replicated"][rival]))

    def cpu_chain(self):
        """Whether a write costs a node the more, the longer the chain is: a middle node's proxy and
        Redis, when many writes travel together (the target) and with one write at a time, where
        what counts is being woken up, on cores that twice as many processes share."""
        yield from self._cpu_by_length("cpu_set_node", replace(_SET, pipeline=16))
        yield from self._cpu_by_length("cpu_set_alone", replace(_SET, connections=1))

    def _cpu_by_length(self, name, shape):
        chains = {n: self._fleet.chain(n) for n in self._pace.lengths if n >= 3}
        costs = self._cpu_rounds({n: (chain.head().clients, _pids(chain))
                                  for n, chain in chains.items()}, shape)
        nodes = {n: {kind: _mean_of_middles(costs[n], kind) for kind in ("proxy", "redis")}
                 for n in chains}
        self._output.series(name, [
            {"nodes": n, **{kind: statistics.median(values) for kind, values in node.items()}}
            for n, node in nodes.items()])
        totals = {n: [sum(pair) for pair in zip(*node.values())] for n, node in nodes.items()}
        shortest = min(totals)
        for n in totals:
            if n > shortest:
                yield _cpu_row(f"{name}_x{n}", (f"a middle node of {n}", totals[n]),
                               (f"of {shortest}", totals[shortest]))

    def _cpu_rounds(self, subjects, shape):
        """{name: (address, {process: pid})} -> {name: {process: [us of CPU an operation]}}"""
        costs = {name: {process: [] for process in pids} for name, (_, pids) in subjects.items()}
        for turn in range(self._pace.rounds):
            order = list(subjects.items())
            for name, (address, pids) in order if turn % 2 == 0 else reversed(order):
                meter = CpuMeter(pids)
                done = measure([address], shape, self._pace.seconds, "--warmup", 0)["operations"]
                for process, seconds in meter.spent().items():
                    costs[name][process].append(1e6 * seconds / done)
        return costs

    # --- metrics ---

    def metrics(self):
        """CPU of the proxies with admin ports, which are asked once a second as Prometheus would,
        against those without, in pipelines of 16."""
        with self._fleet.new_chain(3) as measured, self._fleet.new_chain(3, admin=False) as plain:
            self._fleet.filled_chain(measured, 64)
            self._fleet.filled_chain(plain, 64)
            with _scraped([node.admin for node in measured.nodes]):
                for name, shape, position in (("get", _GET, "middle"), ("set", _SET, "head")):
                    nodes = {"on": measured.at(position), "off": plain.at(position)}
                    costs = self._cpu_rounds({key: (node.clients, {"proxy": node.proxy.pid})
                                              for key, node in nodes.items()},
                                             replace(shape, pipeline=16))
                    yield _cpu_row(f"metrics_{name}_p16", (f"{position}'s proxy, measured",
                                                           costs["on"]["proxy"]),
                                   ("without", costs["off"]["proxy"]))

    # --- system calls ---

    def system_calls(self):
        """With one connection and nothing piled up: the most that an operation can cost."""
        chain = self._fleet.filled_chain(self._fleet.chain(3), 64)
        plain = self._fleet.filled(self._fleet.plain(), 64)
        redis_pid = self._fleet.processes_of("plain")["plain"].pid
        middle = chain.middle()
        reads = self._calls(redis_pid, plain, _GET)
        yield row("calls_get_proxy", "follower's proxy", "plain Redis",
                  [self._calls(middle.proxy.pid, middle.clients, _GET)], [reads], _CALLS)
        writes = self._calls(redis_pid, plain, _SET)
        for process, pid in _pids(chain).items():
            if process.endswith("proxy"):
                yield row(f"calls_set_{process.replace(' ', '_')}", process, "plain Redis",
                          [self._calls(pid, chain.head().clients, _SET)], [writes], _CALLS)
        longest = self._pace.lengths[-1]
        of_three, of_longest = (
            self._calls(each.middle().proxy.pid, each.head().clients, _SET)
            for each in (chain, self._fleet.chain(longest)))
        yield row(f"calls_set_node_x{longest}", f"a middle proxy of {longest}", "of 3",
                  [of_longest], [of_three], _CALLS)

    def _calls(self, pid, address, shape):
        count = self._pace.traced_operations
        one = replace(shape, connections=1)

        def work():
            with Load([address], one, "--operations", count) as load:
                load.result()

        return sum(system_calls(pid, work).values()) / count

    # --- memory ---

    def memory(self):
        """Of a new chain, because memory that was used once is kept."""
        with self._fleet.new_chain(3) as chain:
            head = chain.head()
            proxies, redis = [node.proxy for node in chain.nodes], head.redis
            yield row("memory_rest", "proxy", "Redis", _resident(proxies), _resident([redis]), "MB")
            yield row("memory_client", "proxy", "Redis", [_growth(head.proxy, head.clients) / 1e3],
                      [_growth(redis, head.backend) / 1e3], "KB/client")
            # The log's backlog fills up whatever the number of keys; it is not to count for them.
            _write(chain, Shape(size=10_000, key_count=10), 2 * _BACKLOG_BYTES // 10_000)
            before, redis_before = _resident(proxies), _resident([redis])
            yield row("memory_backlog", "proxy, backlog full", "the backlog", before,
                      [_BACKLOG_BYTES / 1e6], "MB")
            count = self._pace.memory_keys
            _write(chain, Shape(keys="sequential", size=8, key_count=count), count)
            grown = [1e6 * (now - then) / count for now, then in zip(
                [*_resident(proxies), *_resident([redis])], [*before, *redis_before])]
            yield row("memory_keys", "proxy", "Redis", grown[:-1], grown[-1:], "MB/million keys")

    # --- bytes ---

    def bytes_per_write(self):
        chain, master = self._fleet.chain(3), self._fleet.replicated()
        replications = [node.direct_client().info("replication") for node in chain.nodes]
        feeds = [each["master_port"] for each in replications if each["role"] == "slave"]
        links = self._links(chain.head().clients, _pids(chain), (chain.base_port, feeds))
        names = {name: p.pid for name, p in self._fleet.processes_of("replicated").items()}
        replication = self._links(master, names, (self._fleet.base_port,))["master", "replica1"]
        for (sender, receiver), sent in links.items():
            yield row(f"bytes {sender} to {receiver}".replace(" ", "_"), f"{sender} to {receiver}",
                      "Redis: master to replica", [sent], [replication], _BYTES)

    def _links(self, address, pids, ports):
        """{(sender, receiver): bytes a write}, at a rate at which few writes travel together."""
        count = int(_LINK_RATE * self._pace.seconds)
        before = Sockets(*ports)
        with Load([address], replace(_SET, rate=_LINK_RATE, connections=50), "--operations",
                  count) as load:
            load.result()
        time.sleep(0.2)  # what is answered may still be on its way to the followers' Redis
        sent, _ = Sockets(*ports).since(before)
        names = {pid: name for name, pid in pids.items()}
        # Less than a byte a write is what runs beside it, such as heartbeats.
        return {(names[a], names[b]): size / count for (a, b), size in sorted(
            sent.items(), key=str) if a in names and b in names and size > count}


@contextmanager
def _scraped(addresses):
    over = threading.Event()

    def run():
        while not over.wait(1):
            for address in addresses:
                assert http_get(address, "/metrics")[0] == 200

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _pids(chain):
    """{"head proxy": pid, "head redis": pid, "middle proxy": ...}; middles of more are numbered."""
    members = chain.wait_members()
    names = ["head", *(["middle"] if len(members) == 3 else
                       [f"middle{i}" for i in range(1, len(members) - 1)]), "tail"]
    return {f"{name} {kind}": process.pid for name, node in zip(names, members)
            for kind, process in (("proxy", node.proxy), ("redis", node.redis))}


def _write(chain, shape, count):
    with Load([chain.head().clients], replace(shape, mix="set=1", connections=4, pipeline=50),
              "--operations", count) as load:
        load.result()
    chain.wait_position()


def _mean_of_middles(costs, kind):
    """Of all middle nodes, round by round."""
    return [statistics.mean(values) for values in zip(
        *(values for process, values in costs.items()
          if process.startswith("middle") and process.endswith(kind)))]


def _cpu_row(name, subject, rival):
    return row(name, subject[0], rival[0], subject[1], rival[1], _CPU)


def _resident(processes):
    return [process.resident_bytes() / 1e6 for process in processes]


def _growth(process, address):
    """Bytes of memory for each of many clients that have said something."""
    host, port = address.rsplit(":", 1)
    before = process.resident_bytes()
    with ExitStack() as stack:
        for _ in range(_CLIENTS):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(b"GET nothing\r\n")
            client.recv(100)
        return (process.resident_bytes() - before) / _CLIENTS
