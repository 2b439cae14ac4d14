#!/usr/bin/env python3
"""What cannot work through a proxy, as Markdown: asks every command of the backend's COMMAND at a
running proxy.

    integration/unsupported.py 127.0.0.1:6380            # prints it
    integration/unsupported.py 127.0.0.1:6380 --write    # puts it between README.md's markers

A table of the refused commands with the error that they get, and a table of those that work
otherwise than with one server. The commands are really sent: use a chain that holds nothing.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from wire import Closed, Wire  # noqa: E402

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- made by integration/unsupported.py HOST:PORT --write -->\n"
END = "<!-- end -->\n"
ERROR = re.compile(r"ERR (.*) is not allowed through Catena: (.*)")
# What the table says of each that is answered, but not as by one server.
OTHERWISE = [
    ("PUBLISH, SPUBLISH", "reach subscribers at every node; the number counts those at the head"),
    ("PUBSUB", "tells of the subscribers of the node that is asked"),
    ("WAIT", "answers at once with the number of the other members: they have every answered "
             "write"),
    ("ROLE", "master, with the chain's committed position and no replicas, at every node"),
    ("INFO", "of the local server, with a section `# Catena`"),
    ("READONLY, READWRITE", "choose the consistency of this connection's reads"),
    ("CLIENT ID, LIST, KILL, PAUSE, UNBLOCK", "know the clients of this proxy, by ids of its own"),
    ("CLIENT NO-EVICT, NO-TOUCH", "accepted without effect"),
    ("CLIENT TRACKING ... NOLOOP", "the client is told of its own changes too"),
    ("CONFIG, SLOWLOG, LATENCY, MEMORY, MODULE LIST, LASTSAVE, SAVE, BGSAVE",
     "concern the local server"),
    ("CONFIG SET of replica-read-only, requirepass, port and the like",
     "refused: the chain relies on them"),
    ("SCAN and the like", "a cursor belongs to the node that gave it; when that has left the chain, -CHAINDOWN: begin anew"),
    ("EVAL_RO, EVALSHA_RO, FCALL_RO",
     "run at the client's node; what its server lacks or refuses runs at the head"),
    ("EVAL, EVALSHA, FCALL right behind a script that overruns",
     "wait for its end if they came within 30 ms; later ones get `-BUSY`"),
    ("SCRIPT LOAD, EXISTS, FLUSH",
     "concern the head's cache; after a failover EVALSHA answers NOSCRIPT"),
    ("keyspace notifications",
     "those of the local server: at followers an expired or evicted key is `del`"),
    ("SCRIPT KILL, FUNCTION KILL", "end what runs at the local server, else at the head's"),
    ("SUBSCRIBE and the like, MONITOR, CLIENT REPLY, TRACKING, CACHING, UNBLOCK inside MULTI",
     "abort the transaction"),
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
    """{command: error} of those that a proxy refuses for Catena's own reasons."""
    with Wire(address) as wire:
        every = commands(wire)
    found = {}
    for words, arity in every:
        try:
            with Wire(address) as wire:
                reply = wire.call(*fill(words, arity))
        except Closed:
            reply = b"-the connection was closed\r\n"
        error = reply[1:].decode("latin-1").strip()
        if ERROR.fullmatch(error):
            found[" ".join(words)] = error
    return found


def table(address):
    """The text between the markers."""
    reasons = {}
    for command, error in refused(address).items():
        named, reason = ERROR.fullmatch(error).groups()
        assert named == command, error
        reasons.setdefault(reason, []).append(command)
    lines = ["| refused | `ERR <command> is not allowed through Catena: ...` |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {reason} |" for reason, names in sorted(reasons.items())]
    lines += ["", "| not as with one server | what is different |", "|---|---|"]
    lines += [f"| {command} | {what} |" for command, what in OTHERWISE]
    return "\n".join(lines) + "\n"


def split_readme():
    """README.md before, between and behind the markers."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    between, behind = rest.split(END)
    return before, between, behind


def main(arguments):
    if not arguments or arguments[1:] not in ([], ["--write"]):
        sys.exit("usage: unsupported.py HOST:PORT [--write]")
    text = table(arguments[0])
    if len(arguments) == 1:
        print(text, end="")
        return
    before, _, behind = split_readme()
    README.write_text(before + BEGIN + text + END + behind, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
