"""The course of an outage: load at every proxy, a fault at one node, its end; and what must hold then."""

import time

import dataset
from processes import Failed
from workload import CLEAN, CLOSED, DOWN, ERROR, READ, SILENT, STALE, UNKNOWN, WRITE, Connection, Load

_PROBES = 4


def others(cluster, victim):
    return [node for node in cluster.nodes if node is not victim]


def check_settled(cluster, load):
    """After the load: everything acknowledged is at every node, and the nodes are equal."""
    cluster.wait_position(cluster.nodes)
    load.check(cluster.nodes)
    found = dataset.differences([node.direct_client() for node in cluster.nodes])
    if found:
        raise Failed("the databases differ:\n" + "\n".join(found))


def check_clients(load, nodes, began, over, allowed):
    """Failed if a client at the nodes saw anything but what is allowed, or saw it too early or late.

    allowed: {kind: outcomes}. The fault was at work from `began` until `over`.
    """
    wrong = [o for o in load.failures(nodes)
             if o.outcome not in allowed.get(o.kind, ()) or o.ended < began or o.started > over]
    if wrong:
        raise Failed(f"{len(wrong)} requests failed at surviving proxies, such as\n" +
                     "\n".join(f"{o.node} {o.kind} {o.started - began:+.3f} to {o.ended - began:+.3f} "
                               f"s: {o.outcome} {o.detail}" for o in wrong[:8]))


def ride_out(cluster, position, strike, end, allowed, while_out=None, depth=1):
    """A fault that takes the node at `position` out of the chain, under load (depth: see Load).

    strike(node) begins it and end(node) ends it; allowed: see check_clients. while_out(load, node, survivors) runs
    when the others have gone on without it. Reads are sent to the node while it is out, on connections
    that stood before: whatever they are answered, and whenever, it must not be old.
    """
    with Load(cluster, depth=depth) as load:
        load.wait_progress()
        victim = cluster.at(position)
        survivors = others(cluster, victim)
        probes = [Connection(victim.clients, timeout=30) for _ in range(_PROBES)]
        for probe in probes:
            probe.call("PING")
        began = time.monotonic()
        strike(victim)
        cluster.wait_whole(members=len(survivors), without=[victim.id])
        load.wait_progress(survivors)
        over = time.monotonic()
        questions = _ask(load, probes)
        if while_out:
            while_out(load, victim, survivors)
        end(victim)
        cluster.wait_whole()
        load.wait_progress()
    answers = [load.judge(question, probe) if question else (CLOSED, "")
               for question, probe in zip(questions, probes)]
    for probe in probes:
        probe.close()
    check_settled(cluster, load)
    bad = [answer for answer in answers if answer[0] in (STALE, SILENT, ERROR)]
    if bad:
        raise Failed(f"{victim.id}, out of the chain, answered {bad}")
    check_clients(load, survivors, began, over, allowed)
    return load


def _ask(load, probes):
    questions = []
    for probe in probes:
        try:
            questions.append(load.probe(probe))
        except OSError:
            questions.append(None)
    return questions


# Clients elsewhere when a follower goes: writes wait for the new chain, nothing fails.
NOTHING = {}
# When the head goes: what it had executed and not answered has an unknown outcome. Reads never fail.
HEAD_LOST = {WRITE: (UNKNOWN,)}
# Where the chain cannot go on for longer than the write timeout; keys that nobody writes are read on.
CHAIN_STOPS = {WRITE: (UNKNOWN, DOWN), READ: (DOWN,), CLEAN: (DOWN,)}
