"""No command closes a connection, hangs it or puts its replies out of step; what is refused says so."""

import random
import socket

import pytest

import unsupported
from command_generator import Generator, commands_of
from wire import Closed, Wire, encode

POSITIONS = ("head", "middle", "tail")
# Of these the next reply is not the last: messages, or none.
STREAMING = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "MONITOR"}


def stays_in_step(address, command, resp):
    """None, or what is wrong after this command."""
    marker = b"marker-%d" % random.randrange(10**9)
    words = [w if isinstance(w, bytes) else str(w).encode("latin-1") for w in command]
    name = words[0].upper()
    with Wire(address, timeout=12) as wire:
        if resp == 3:
            wire.call("HELLO", "3")
        try:
            wire.send(encode(*words) + encode("PING", marker))
            first = wire.reply()
            if name == b"QUIT":
                return None if first == b"+OK\r\n" and wire.rest() == b"" else f"{first!r} to QUIT"
            for _ in range(12 if name.decode("latin-1") in STREAMING else 1):
                second = wire.reply()
                if marker in second or (name == b"MULTI" and second == b"+QUEUED\r\n"):
                    return None
        except Closed:
            return f"closed by {command}"
        except (socket.timeout, OSError) as error:
            return f"{error!r} after {command}"
    return f"{first[:80]!r} {second[:80]!r} after {command}"


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("position", POSITIONS)
def test_every_command_is_answered_once(cluster, position, resp):
    """Each command of COMMAND without arguments, with too few, with nonsense, and with arguments that make sense."""
    node = cluster.at(position)
    with Wire(node.clients) as wire:
        every = unsupported.commands(wire)
    generator = Generator(commands_of(cluster.head().direct_client()), random.Random(resp))
    grammar = {tuple(c.name.upper().split("|")): c for c in commands_of(cluster.head().direct_client())}
    assert len(every) > 300
    wrong = []
    for words, arity in every:
        calls = [words, unsupported.fill(words, arity), unsupported.fill(words, arity, "1"),
                 unsupported.fill(words, arity) + ["y"] * 3]
        # Its own sense would make it silent, or wait.
        if tuple(words) in grammar and words not in (["CLIENT", "REPLY"], ["CLIENT", "PAUSE"], ["WAIT"], ["QUIT"]):
            calls.append(generator.of(grammar[tuple(words)]))
        for call in calls:
            problem = stays_in_step(node.clients, call, resp)
            if problem:
                wrong.append(problem)
    assert not wrong, "\n".join(map(str, wrong))
    cluster.check_alive()
    cluster.wait_whole()


def test_the_readme_tells_what_is_refused(cluster):
    """It is what the script makes of this version, at any node; and each error comes in step."""
    _, written, _ = unsupported.split_readme()
    for position in POSITIONS:
        assert written == unsupported.table(cluster.at(position).clients), \
            "run integration/unsupported.py --write"
    with Wire(cluster.middle().clients) as wire:
        arity = {" ".join(words): arity for words, arity in unsupported.commands(wire)}
        listed = 0
        for row in written.split("\n\n", maxsplit=1)[0].splitlines()[2:]:
            commands, reason = (cell.strip() for cell in row.strip("|").split("|"))
            for command in commands.split(", "):
                words = unsupported.fill(command.split(), arity[command])
                wire.send(encode(*words) + encode("PING", command))
                error = f"-ERR {command} is not allowed through Catena: {reason}\r\n"
                assert wire.reply() == error.encode()
                assert wire.reply() == f"${len(command)}\r\n{command}\r\n".encode()
                listed += 1
    assert listed > 20


def test_settings_that_the_chain_relies_on(cluster):
    with Wire(cluster.tail().clients) as wire:
        for setting in ("replica-read-only", "slave-read-only", "requirepass", "PORT"):
            assert b"is not allowed through Catena" in wire.call("CONFIG", "SET", "maxmemory", "0", setting, "no")
        assert wire.call("CONFIG", "SET", "slowlog-max-len", "77") == b"+OK\r\n"
        assert wire.call("CONFIG", "GET", "slowlog-max-len") == b"*2\r\n$15\r\nslowlog-max-len\r\n$2\r\n77\r\n"
