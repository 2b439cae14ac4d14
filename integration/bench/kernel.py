"""What the kernel knows of processes: CPU time, system calls, bytes between them."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from cluster import PORTS
from processes import Failed, wait_until


def cpu_seconds(pid):
    """User and system time of all its threads so far, to the nanosecond where the kernel keeps
    schedstat, else in its ticks (10 ms)."""
    try:
        return sum(int(path.read_text().split()[0])
                   for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU time of several processes from now on: {name: pid} in, {name: seconds} out."""

    def __init__(self, pids):
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def spent(self):
        return {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}


def system_calls(pid, work):
    """How many system calls the process makes while work() runs, by name. With strace, which slows
    it: right where every step waits for the one before, too few where commands would pile up."""
    if not shutil.which("strace"):
        raise Failed("strace is not installed; integration/packages.txt lists it")
    with tempfile.TemporaryDirectory(prefix="catena-strace-") as directory:
        summary, log = Path(directory) / "summary", Path(directory) / "log"
        with open(log, "wb") as output:
            tracer = subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", "-o",
                                       str(summary), "-p", str(pid)], stderr=output)
            try:
                wait_until(lambda: b"attached" in log.read_bytes(), 10, "strace is attached")
                work()
            finally:
                tracer.send_signal(2)  # SIGINT: it detaches and sums up
                tracer.wait(20)
        counts = re.findall(r"^\s*(\d+)\s+(\w+)\s*$", summary.read_text(), re.M)
    return {name: int(count) for count, name in counts if name != "total"}


_SOCKET = re.compile(r"^\S+\s+\S+\s+(\S+)\s+(\S+)\s+users:\(\(.*?pid=(\d+)")
_FIELD = re.compile(r"\b(bytes_sent|data_segs_out):(\d+)")


class Sockets:
    """A snapshot: bytes and segments sent so far between processes, on the connections that are
    established to servers at the ports from first_port on, as many as a Cluster or Fleet has, or at
    one of the others.

    Asked for few ports, the kernel answers in one piece; an answer in pieces may miss connections
    when others come and go meanwhile.
    """

    def __init__(self, first_port, others=()):
        ranges = [(first_port, first_port + PORTS - 1), *((port, port) for port in others)]
        ends = [f"( {side} ge :{low} and {side} le :{high} )"
                for low, high in ranges for side in ("sport", "dport")]
        done = subprocess.run(["ss", "-tinpHO", "state", "established", " or ".join(ends)],
                              capture_output=True, text=True, check=True)
        self.at = time.monotonic()
        owners, sent = {}, []
        for line in done.stdout.splitlines():
            if match := _SOCKET.match(line):
                local, peer, pid = match.groups()
                owners[local] = int(pid)
                sent.append((int(pid), peer, dict(_FIELD.findall(line))))
        self.bytes, self.segments = Counter(), Counter()
        for pid, peer, fields in sent:
            link = (pid, owners.get(peer))
            self.bytes[link] += int(fields.get("bytes_sent", 0))
            self.segments[link] += int(fields.get("data_segs_out", 0))

    def since(self, earlier):
        """(bytes, segments) sent since then, by (from pid, to pid)."""
        return self.bytes - earlier.bytes, self.segments - earlier.segments
