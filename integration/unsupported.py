#!/usr/bin/env python3
"""What cannot work through a proxy, as Markdown: asks every command of the backend's COMMAND at a running proxy.

    integration/unsupported.py 127.0.0.1:6380

prints a table of the refused commands with the error that each gets, and a table of those that work otherwise than with one
server. The commands are really sent: use a chain that holds nothing.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from wire import Closed, Wire  # noqa: E402

MARK = "through Catena"
# What the table says of each that is answered, but not as by one server.
OTHERWISE = [
    ("PUBLISH, SPUBLISH", "the message reaches subscribers at every node; the number counts those at the head"),
    ("PUBSUB", "tells of the subscribers of the node that is asked"),
    ("WAIT", "answers at once with the number of the other members: they all have every answered write"),
    ("ROLE", "master, with the chain's committed position and no replicas, at every node"),
    ("INFO", "of the local server, with a section `# Catena`"),
    ("READONLY, READWRITE", "choose the consistency of this connection's reads"),
    ("CLIENT ID, LIST, KILL, PAUSE, UNBLOCK", "know the clients of this proxy, by ids of its own"),
    ("CLIENT NO-EVICT, NO-TOUCH", "accepted without effect"),
    ("CONFIG, SLOWLOG, LATENCY, MEMORY, MODULE LIST, LASTSAVE, SAVE, BGSAVE", "concern the local server"),
    ("SCAN and the like", "a cursor belongs to the node that gave it"),
    ("EVAL_RO, EVALSHA_RO, FCALL_RO", "run at the local node; what that server lacks or refuses runs at the head"),
    ("SCRIPT LOAD, EXISTS, FLUSH", "concern the head's cache; after a failover EVALSHA answers NOSCRIPT"),
    ("MULTI with a SUBSCRIBE, MONITOR or CLIENT REPLY, TRACKING, CACHING, UNBLOCK inside", "aborts"),
]


def commands(wire):
    """[(words, arity)] of every command and subcommand that COMMAND tells, containers excluded."""
    wire.send(b"*1\r\n$7\r\nCOMMAND\r\n")
    entries, _ = _parse(wire.reply(), 0)
    found = []
    for entry in entries:
        subcommands = entry[9] if len(entry) > 9 else []
        for one in subcommands or [entry]:
            found.append((one[0].decode().upper().split("|"), one[1]))
        if entry[0] == b"command":
            found.append((["COMMAND"], -1))
    return sorted(found)


def _parse(raw, at):
    end = raw.index(b"\r\n", at)
    kind, rest, at = raw[at:at + 1], raw[at + 1:end], end + 2
    if kind == b"$" and rest != b"-1":
        return raw[at:at + int(rest)], at + int(rest) + 2
    if kind == b"*" and rest != b"-1":
        items = []
        for _ in range(int(rest)):
            item, at = _parse(raw, at)
            items.append(item)
        return items, at
    return (int(rest) if kind == b":" else rest), at


def fill(words, arity, filler="x"):
    """The words with as few more as the command takes."""
    return words + [filler] * max(0, abs(arity) - len(words))


def refused(address):
    """[(command, error)] of those that a proxy refuses for Catena's own reasons."""
    with Wire(address) as wire:
        every = commands(wire)
    found = []
    for words, arity in every:
        try:
            with Wire(address) as wire:
                reply = wire.call(*fill(words, arity))
        except Closed:
            reply = b"-the connection was closed\r\n"
        if MARK.encode() in reply:
            found.append((" ".join(words), reply[1:].decode().strip()))
    return found


def table(address):
    lines = ["| command | error |", "|---|---|"]
    lines += [f"| {command} | `{error}` |" for command, error in refused(address)]
    lines += ["| CONFIG SET of replica-read-only, requirepass, port and the like | "
              "`ERR CONFIG SET ... is not allowed through Catena: the chain relies on it` |"]
    lines += ["", "| command | what is different |", "|---|---|"]
    lines += [f"| {command} | {what} |" for command, what in OTHERWISE]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: unsupported.py HOST:PORT")
    print(table(sys.argv[1]))
