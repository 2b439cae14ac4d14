#!/usr/bin/env python3
"""A steady load of writes that costs little itself, measured at the client.

    load.py --to 127.0.0.1:6380 --rate 4000 --connections 4 --keys 100000 --bytes 100

sends SETs at a fixed rate, whether or not the answers come (a client that waited for a slow answer
would not notice how many others would have been slow), until standard input ends, and prints one
line of JSON. A write's latency runs from the moment at which it is given to the socket. As a
library: see Load.
"""

import argparse
import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

_TICK = 0.005


class Load:
    """The same as a process of its own, so that the test's work does not disturb it.

        with Load(node, rate=4000) as load:
            ...
        assert load.result["slowest_ms"] < 500

    Marks divide the time: load.mark("join") begins a part of the result that is named so.
    """

    def __init__(self, node, rate=4000, connections=4, keys=100000, size=100, prefix="load"):
        self._argv = [sys.executable, str(Path(__file__).resolve()), "--to", node.clients,
                      "--rate", str(rate), "--connections", str(connections), "--keys", str(keys),
                      "--bytes", str(size), "--prefix", prefix]
        self._process = None
        self.result = None

    def __enter__(self):
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)
        assert self._process.stdout.readline() == "running\n"
        return self

    def mark(self, name):
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()

    def stop(self):
        if self.result is None:
            output, _ = self._process.communicate(timeout=60)
            self.result = json.loads(output)
        return self.result

    def __exit__(self, failure, *_):
        if failure:
            self._process.kill()
            self._process.communicate()
        else:
            self.stop()


def distribution(latencies):
    """Of seconds: quantiles in milliseconds."""
    ordered = sorted(latencies)

    def quantile(share):
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

    if not ordered:
        return {"writes": 0}
    return {"writes": len(ordered), "p50_ms": quantile(0.5), "p90_ms": quantile(0.9),
            "p99_ms": quantile(0.99), "p99.9_ms": quantile(0.999), "slowest_ms": quantile(1)}


class _Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = b""
        self.unread = b""
        self.sent_at = []   # of each write, oldest first
        self.answered = 0   # of them

    def send(self):
        if self.unsent:
            try:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
            except BlockingIOError:
                pass

    def read(self, latencies, errors):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the proxy")
        now = time.monotonic()
        *lines, self.unread = (self.unread + data).split(b"\r\n")
        for line in lines:
            sent_at = self.sent_at[self.answered]
            self.answered += 1
            if line == b"+OK":
                latencies.append(now - sent_at)
            else:
                errors.append(line.decode())
        if self.answered > 10000:
            del self.sent_at[:self.answered]
            self.answered = 0

    def outstanding(self):
        return len(self.sent_at) - self.answered


class _Writer:
    def __init__(self, arguments):
        self._arguments = arguments
        self._connections = [_Connection(arguments.to) for _ in range(arguments.connections)]
        self._poll = select.poll()
        self._by_fd = {c.socket.fileno(): c for c in self._connections}
        for fd in self._by_fd:
            self._poll.register(fd, select.POLLIN)
        self._poll.register(0, select.POLLIN)
        self._sent = 0
        self.errors = []
        self.parts = [("start", [])]

    def run(self):
        begun = time.monotonic()
        running = True
        while running or any(c.outstanding() for c in self._connections):
            now = time.monotonic()
            if running:
                self._issue(int((now - begun) * self._arguments.rate), now)
            wait = max(0.0, _TICK - (time.monotonic() - now))
            for fd, _ in self._poll.poll(1000 * wait):
                if fd == 0:
                    running = self._told() and running
                else:
                    self._by_fd[fd].read(self.parts[-1][1], self.errors)
            if running:
                # What arrives in a tick is read at once, what is sent waits for the tick's end.
                time.sleep(max(0.0, _TICK - (time.monotonic() - now)) / 2)
        elapsed = time.monotonic() - begun
        every = [latency for _, part in self.parts for latency in part]
        return {"seconds": round(elapsed, 2), "rate": round(len(every) / elapsed),
                **distribution(every), "errors": self.errors[:10],
                "parts": {name: distribution(part) for name, part in self.parts}}

    def _issue(self, target, now):
        count = target - self._sent
        share = max(1, count // len(self._connections))
        for connection in self._connections:
            part = min(share, target - self._sent)
            commands = []
            for _ in range(part):
                number = self._sent = self._sent + 1
                key = f"{self._arguments.prefix}:{number % self._arguments.keys}".encode()
                value = (b"%d " % number).ljust(self._arguments.bytes, b".")
                commands.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" %
                                (len(key), key, len(value), value))
            connection.unsent += b"".join(commands)
            connection.sent_at.extend([now] * part)
            connection.send()

    def _told(self):
        """A line of standard input begins a part; its end ends the load."""
        line = sys.stdin.buffer.raw.read(1000)
        for name in line.decode().split():
            self.parts.append((name, []))
        return bool(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", required=True, help="host:port of a proxy")
    parser.add_argument("--rate", type=int, default=4000, help="writes a second (4000)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--keys", type=int, default=100000)
    parser.add_argument("--bytes", type=int, default=100, help="of a value (100)")
    parser.add_argument("--prefix", default="load", help="of the keys (load)")
    writer = _Writer(parser.parse_args())
    print("running", flush=True)
    print(json.dumps(writer.run()))


if __name__ == "__main__":
    main()
