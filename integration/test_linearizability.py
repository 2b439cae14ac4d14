"""The judge of histories: what it accepts, and that it rejects what it has to."""

import itertools
import math
import random

import pytest

from linearizability import (COUNTER, LIST, PAIR, REFUSED, REGISTER, UNKNOWN, Operation, Undecided,
                             check)


def op(kind, argument, result, invoked, returned):
    return Operation(kind, argument, result, invoked, returned)


def lost(kind, argument, invoked):
    return Operation(kind, argument, UNKNOWN, invoked, math.inf)


ACCEPTED = {
    "nothing happened": (REGISTER, []),
    "a read during a write shows either": (REGISTER, [
        op("SET", 1, "OK", 0, 10), op("GET", None, None, 1, 2), op("GET", None, 1, 3, 4)]),
    "writes that overlap have any order": (REGISTER, [
        op("SET", 1, "OK", 0, 10), op("SET", 2, "OK", 1, 9), op("GET", None, 1, 11, 12)]),
    "a write without outcome that happened much later": (REGISTER, [
        lost("SET", 1, 0), op("GET", None, None, 5, 6), op("GET", None, 1, 7, 8)]),
    "a write without outcome that never happened": (REGISTER, [
        lost("SET", 1, 0), op("SET", 2, "OK", 1, 2), op("GET", None, 2, 5, 6)]),
    "a swap that saw what it expected": (REGISTER, [
        op("SET", 1, "OK", 0, 1), op("CAS", (1, 2), True, 2, 3), op("GETSET", 3, 2, 4, 5)]),
    "increments without outcome, one of which happened": (COUNTER, [
        lost("INCR", None, 0), lost("INCR", None, 0), op("INCR", None, 2, 3, 4),
        op("GET", None, 2, 5, 6)]),
    "a list": (LIST, [
        op("RPUSH", "a", 1, 0, 1), op("RPUSH", "b", 2, 2, 5), op("LPOP", None, "a", 3, 6),
        op("LRANGE", None, ("b",), 7, 8), op("LPOP", None, "b", 9, 10),
        op("LPOP", None, None, 11, 12)]),
    "pops without outcome, one of which happened": (LIST, [
        op("RPUSH", "a", 1, 0, 1), lost("RPUSH", "b", 2), lost("LPOP", None, 3),
        lost("LPOP", None, 3), op("LRANGE", None, (), 5, 6)]),
    "a push without outcome that only a length shows, and a pop that took it": (LIST, [
        lost("RPUSH", "a", 0), op("RPUSH", "b", 2, 1, 2), lost("LPOP", None, 3),
        op("LRANGE", None, ("b",), 5, 6)]),
    "a pair": (PAIR, [op("WRITE", 1, True, 0, 3), op("READ", None, (None, None), 1, 2),
                      op("READ", None, (1, 1), 4, 5)]),
}
REJECTED = {
    "an old value after the write was answered": (REGISTER, [
        op("SET", 1, "OK", 0, 1), op("GET", None, None, 2, 3)]),
    "an old value after a newer one was read": (REGISTER, [
        op("SET", 1, "OK", 0, 10), op("GET", None, 1, 1, 2), op("GET", None, None, 3, 4)]),
    "a value that nobody wrote": (REGISTER, [op("GET", None, 7, 0, 1)]),
    "a value from before it was written": (REGISTER, [
        op("GET", None, 1, 0, 1), op("SET", 1, "OK", 2, 3)]),
    "an answered write that is lost": (REGISTER, [
        op("SET", 1, "OK", 0, 1), op("SET", 2, "OK", 2, 3), op("GET", None, 1, 4, 5)]),
    "a write without outcome that happened twice": (REGISTER, [
        lost("SET", 1, 0), op("GET", None, 1, 1, 2), op("SET", 2, "OK", 3, 4),
        op("GET", None, 2, 5, 6), op("GET", None, 1, 7, 8)]),
    "two swaps of the same value": (REGISTER, [
        op("CAS", (None, 1), True, 0, 5), op("CAS", (None, 2), True, 1, 6)]),
    "an increment that was done twice": (COUNTER, [
        op("INCR", None, 1, 0, 1), op("INCR", None, 3, 2, 3)]),
    "two increments with one answer": (COUNTER, [
        op("INCR", None, 1, 0, 5), op("INCR", None, 1, 1, 6)]),
    "more increments than were sent": (COUNTER, [
        lost("INCR", None, 0), op("INCR", None, 3, 1, 2)]),
    "an item that was popped twice": (LIST, [
        op("RPUSH", "a", 1, 0, 1), op("LPOP", None, "a", 2, 5), op("LPOP", None, "a", 3, 6)]),
    "items in the wrong order": (LIST, [
        op("RPUSH", "a", 1, 0, 1), op("RPUSH", "b", 2, 2, 3),
        op("LRANGE", None, ("b", "a"), 4, 5)]),
    "half a transaction": (PAIR, [op("WRITE", 1, True, 0, 3), op("READ", None, (1, None), 1, 2)]),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name):
    assert check(*ACCEPTED[name]) is None


@pytest.mark.parametrize("name", REJECTED)
def test_rejects(name):
    problem = check(*REJECTED[name])
    assert problem and "none of these could be next" in problem


def test_gives_up_instead_of_searching_for_ever():
    writes = [op("SET", i, "OK", 0, 100) for i in range(12)]
    with pytest.raises(Undecided):
        check(REGISTER, writes + [op("GET", None, "no such", 1, 99)], steps_max=1000)


def by_trying_every_order(model, operations):
    """The definition itself, for histories of a handful of operations."""
    closed = [o for o in operations if o.result is not UNKNOWN]
    lost_ones = [o for o in operations if o.result is UNKNOWN]
    for count in range(len(lost_ones) + 1):
        for happened in itertools.combinations(lost_ones, count):
            for order in itertools.permutations(closed + list(happened)):
                state = model.initial
                for i, operation in enumerate(order):
                    if any(later.returned < operation.invoked for later in order[i:]):
                        break
                    state = model.step(state, operation)
                    if state is REFUSED:
                        break
                else:
                    return True
    return False


def random_register_history(generator):
    operations = []
    for number in range(generator.randint(2, 5)):
        invoked = generator.randrange(12)
        returned = invoked + generator.randint(1, 6)
        if generator.random() < 0.5:
            operations.append(lost("SET", number, invoked) if generator.random() < 0.3
                              else op("SET", number, "OK", invoked, returned))
        else:
            operations.append(op("GET", None, generator.choice([None, 0, 1, 2]), invoked, returned))
    return operations


def test_agrees_with_the_definition():
    generator = random.Random(1)
    verdicts = set()
    for _ in range(1500):
        operations = random_register_history(generator)
        wanted = by_trying_every_order(REGISTER, operations)
        assert (check(REGISTER, operations) is None) == wanted, operations
        verdicts.add(wanted)
    assert verdicts == {True, False}
