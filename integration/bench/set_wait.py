#!/usr/bin/env python3
"""SET followed by WAIT 2 in one packet, over some connections at once: set_wait.py PORT REQUESTS CLIENTS.

Prints requests a second and the median latency in milliseconds. One process and epoll, so that its own cost a request stays
near redis-benchmark's.
"""

import random
import select
import socket
import statistics
import sys
import time


def packet():
    key = b"key:%012d" % random.randrange(100_000)
    return (b"*3\r\n$3\r\nSET\r\n$16\r\n" + key + b"\r\n$64\r\n" + b"x" * 64 +
            b"\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$1\r\n0\r\n")


def main():
    port, requests, clients = map(int, sys.argv[1:4])
    poll = select.epoll()
    sockets, sent_at, answers = {}, {}, {}
    packets = [packet() for _ in range(1000)]
    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        answers[connection.fileno()] = b""
        poll.register(connection.fileno(), select.EPOLLIN)
    latencies, begun = [], time.perf_counter()
    started = 0
    for number, connection in sockets.items():
        sent_at[number] = time.perf_counter()
        connection.sendall(packets[started % 1000])
        started += 1
    while len(latencies) < requests:
        for number, _ in poll.poll():
            answers[number] += sockets[number].recv(4096)
            if answers[number].count(b"\r\n") < 2:
                continue
            if not answers[number].startswith(b"+OK\r\n:2\r\n"):
                sys.exit(f"unexpected answer: {answers[number]!r}")
            now = time.perf_counter()
            latencies.append(now - sent_at[number])
            answers[number] = b""
            if started < requests:
                sent_at[number] = now
                sockets[number].sendall(packets[started % 1000])
                started += 1
    seconds = time.perf_counter() - begun
    print(requests / seconds, statistics.median(latencies) * 1000)


if __name__ == "__main__":
    main()
