#!/usr/bin/env python3
"""Catena beside what people would use instead, in one run.

    integration/bench/run.py [--quick] [--only NAME,NAME] [--json FILE]

Starts a plain Redis, a Redis with two ordinary replicas, and a Catena chain of three, and measures each subject and its rival
with redis-benchmark in alternating rounds (A B A B ...), because machines are noisy: what counts is the ratio of the
medians. Prints a Markdown table; --json writes a list of rows {"name", "subject", "rival", "ratio", "subject_value",
"rival_value", "unit"}.
"""

import argparse
import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cluster import Cluster, free_base_port  # noqa: E402
from processes import Process, stop_all, wait_until  # noqa: E402

import redis  # noqa: E402


class Servers:
    """A plain Redis, and a Redis with two replicas."""

    def __init__(self, directory):
        self.directory = Path(directory)
        base = free_base_port()
        self.plain_port, self.master_port = base, base + 1
        self.replica_ports = [base + 2, base + 3]
        self.processes = []

    def start(self):
        for port in [self.plain_port, self.master_port, *self.replica_ports]:
            data = self.directory / str(port)
            data.mkdir()
            argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                    "--dir", str(data), "--repl-diskless-sync-delay", "0"]
            if port in self.replica_ports:
                argv += ["--replicaof", "127.0.0.1", str(self.master_port)]
            process = Process(f"redis-{port}", argv, self.directory / f"{port}.log")
            process.start()
            self.processes.append(process)
        wait_until(self._replicated, 20, "the replicas are connected")

    def _replicated(self):
        try:
            return redis.Redis(port=self.master_port).info("replication")["connected_slaves"] == 2
        except redis.RedisError:
            return False

    def stop(self):
        stop_all(self.processes, 10)


def benchmark(port, command, requests, clients, pipeline, size):
    """One run of redis-benchmark: (requests a second, p50 in milliseconds)."""
    argv = ["redis-benchmark", "-p", str(port), "-n", str(requests), "-c", str(clients), "-P", str(pipeline),
            "-d", str(size), "-r", "100000", "--csv", "-t", command]
    output = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=300).stdout
    row = list(csv.DictReader(io.StringIO(output)))[0]
    return float(row["rps"]), float(row["p50_latency_ms"])


def wait_benchmark(port, requests, clients):
    """SET followed by WAIT 2 in the same packet: what one would do for safety without Catena."""
    script = Path(__file__).with_name("set_wait.py")
    output = subprocess.run([sys.executable, str(script), str(port), str(requests), str(clients)], check=True,
                            capture_output=True, text=True, timeout=300).stdout
    rate, p50 = output.split()
    return float(rate), float(p50)


class Measurement:
    def __init__(self, name, subject, rival, run_subject, run_rival, index, unit):
        self.name, self.subject, self.rival = name, subject, rival
        self.run_subject, self.run_rival = run_subject, run_rival
        self.index, self.unit = index, unit

    def rounds(self, count):
        ours, theirs = [], []
        for _ in range(count):
            theirs.append(self.run_rival()[self.index])
            ours.append(self.run_subject()[self.index])
        subject, rival = statistics.median(ours), statistics.median(theirs)
        return {"name": self.name, "subject": self.subject, "rival": self.rival, "ratio": round(subject / rival, 3),
                "subject_value": round(subject, 3), "rival_value": round(rival, 3), "unit": self.unit,
                "subject_spread": [min(ours), max(ours)], "rival_spread": [min(theirs), max(theirs)]}


def measurements(cluster, servers, scale):
    def port(node):
        return int(node.clients.rsplit(":", 1)[1])

    def run(at, command, requests, clients, pipeline, size=64):
        return lambda: benchmark(at, command, int(requests * scale), clients, pipeline, size)

    plain, replicated = servers.plain_port, servers.master_port
    head, middle, tail = (port(cluster.at(position)) for position in ("head", "middle", "tail"))
    per_second, milliseconds = "requests/s", "ms (p50)"
    for where, at in (("head", head), ("middle", middle), ("tail", tail)):
        yield Measurement(f"get-p1-c50-{where}", f"Catena x3, {where}", "plain Redis", run(at, "get", 100_000, 50, 1),
                          run(plain, "get", 100_000, 50, 1), 0, per_second)
        yield Measurement(f"get-p16-c50-{where}", f"Catena x3, {where}", "plain Redis", run(at, "get", 600_000, 50, 16),
                          run(plain, "get", 600_000, 50, 16), 0, per_second)
    yield Measurement("get-latency-c1-middle", "Catena x3, middle", "plain Redis", run(middle, "get", 20_000, 1, 1),
                      run(plain, "get", 20_000, 1, 1), 1, milliseconds)
    yield Measurement("set-p1-c50-head", "Catena x3, head", "Redis + 2 replicas + WAIT 2",
                      run(head, "set", 50_000, 50, 1), lambda: wait_benchmark(replicated, int(50_000 * scale), 50), 0,
                      per_second)
    yield Measurement("set-latency-c1-head", "Catena x3, head", "Redis + 2 replicas + WAIT 2",
                      run(head, "set", 5_000, 1, 1), lambda: wait_benchmark(replicated, int(5_000 * scale), 1), 1,
                      milliseconds)
    yield Measurement("set-p16-c50-head", "Catena x3, head", "Redis + 2 asynchronous replicas",
                      run(head, "set", 400_000, 50, 16), run(replicated, "set", 400_000, 50, 16), 0, per_second)


def markdown(rows):
    yield "| measurement | Catena | rival | ratio |"
    yield "|---|---|---|---|"
    for row in rows:
        yield (f"| {row['name']} | {row['subject_value']:,.6g} {row['unit']} | {row['rival']}: {row['rival_value']:,.6g} "
               f"| **{row['ratio']:.2f}** |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests and rounds: under five minutes")
    parser.add_argument("--only", default="", help="names of measurements, separated by commas")
    parser.add_argument("--json", help="file for the rows")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    scale, rounds = (0.3, 3) if options.quick else (1.0, 5)

    directory = tempfile.mkdtemp(prefix="catena-bench-")
    servers = Servers(directory)
    rows = []
    try:
        servers.start()
        with Cluster(nodes=3) as cluster:
            for measurement in measurements(cluster, servers, scale):
                if only and measurement.name not in only:
                    continue
                rows.append(measurement.rounds(rounds))
                print(f"{rows[-1]['name']}: ratio {rows[-1]['ratio']}", file=sys.stderr, flush=True)
    finally:
        servers.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print("\n".join(markdown(rows)))
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
