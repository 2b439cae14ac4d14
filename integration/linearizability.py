"""Is a history of concurrent operations on one object linearizable?

The search is Wing and Gong's with Lowe's memory of what was tried, as porcupine has it: take one by
one the operations that nobody's end forbids to be next, and go back when the object's model refuses
an answer. The objects of a system are checked one at a time: linearizability is local.

    problem = check(REGISTER, [Operation("SET", b"1", b"OK", 0.0, 0.3), ...])
"""

import math
from typing import NamedTuple

UNKNOWN = object()     # the result of an operation whose outcome nobody was told
REFUSED = object()     # what a model says of a result that cannot be
STEPS_MAX = 500_000    # of one search


class Operation(NamedTuple):
    """What one client asked of one object. Without an outcome (result UNKNOWN, returned at
    infinity) it may have happened at any time since it was invoked, or never."""
    kind: str
    argument: object
    result: object
    invoked: float
    returned: float
    client: str = ""


class Undecided(Exception):
    """The search was given up; the text says of how many operations."""


class Model(NamedTuple):
    """initial: a hashable state. step(state, operation): the next one, or REFUSED.
    happened(operations): without those of unknown outcome that left no trace and so probably never
    happened; an operation that may never have happened may be left out."""
    initial: object
    step: object
    happened: object


def _fits(operation, result):
    return operation.result is UNKNOWN or operation.result == result


def _step_register(state, operation):
    """SET v; GET; GETSET v; CAS (expected, v), recorded only if it succeeded or may have."""
    kind, argument = operation.kind, operation.argument
    if kind == "SET":
        return argument
    if kind == "GET":
        return state if _fits(operation, state) else REFUSED
    if kind == "GETSET":
        return argument if _fits(operation, state) else REFUSED
    if kind == "CAS":
        return argument[1] if state == argument[0] else REFUSED
    raise ValueError(kind)


def _step_counter(state, operation):
    """INCR; GET, which answers None before the first INCR."""
    if operation.kind == "INCR":
        return state + 1 if _fits(operation, state + 1) else REFUSED
    if operation.kind == "GET":
        return state if _fits(operation, state or None) else REFUSED
    raise ValueError(operation.kind)


def _step_list(state, operation):
    """RPUSH v answers the length; LPOP the first or None; LRANGE all, as a tuple."""
    if operation.kind == "RPUSH":
        state = state + (operation.argument,)
        return state if _fits(operation, len(state)) else REFUSED
    if operation.kind == "LPOP":
        return state[1:] if _fits(operation, state[0] if state else None) else REFUSED
    if operation.kind == "LRANGE":
        return state if _fits(operation, state) else REFUSED
    raise ValueError(operation.kind)


def _step_pair(state, operation):
    """Two keys that are always written together: WRITE v; READ answers both."""
    if operation.kind == "WRITE":
        return operation.argument
    if operation.kind == "READ":
        return state if _fits(operation, (state, state)) else REFUSED
    raise ValueError(operation.kind)


def _written(operation):
    return operation.argument[1] if operation.kind == "CAS" else operation.argument


def _values_seen(operations):
    """All that answers showed, and what successful swaps expected."""
    seen = set()
    for operation in operations:
        if operation.kind == "CAS":
            seen.add(operation.argument[0])
        elif isinstance(operation.result, tuple):
            seen.update(operation.result)
        elif operation.result is not UNKNOWN:
            seen.add(operation.result)
    return seen


def _happened_to_values(operations):
    seen = _values_seen(operations)
    return [o for o in operations if o.result is not UNKNOWN or _written(o) in seen]


def _happened_to_list(operations):
    """Pops that nobody was told of count only if an item is missing."""
    seen = _values_seen(o for o in operations if o.kind != "RPUSH")
    looks = [o for o in operations if o.kind == "LRANGE"]
    last = max(looks, key=lambda o: o.invoked).result if looks else ()
    left = {o.result for o in operations if o.kind == "LPOP"} | set(last)
    missing = any(o.result is not UNKNOWN and o.argument not in left
                  for o in operations if o.kind == "RPUSH")
    return [o for o in operations if o.result is not UNKNOWN or
            (missing if o.kind == "LPOP" else o.argument in seen)]


REGISTER = Model(None, _step_register, _happened_to_values)
COUNTER = Model(0, _step_counter, list)
LIST = Model((), _step_list, _happened_to_list)
PAIR = Model(None, _step_pair, _happened_to_values)


class _Search:
    """The operations without those that are taken. Closed ones, which must all be taken, form a
    list in the order of their invocation; `taken` has a bit for each operation."""

    def __init__(self, operations):
        ordered = sorted(operations, key=lambda operation: operation.invoked)
        self.closed = [o for o in ordered if o.result is not UNKNOWN]
        self.open = [o for o in ordered if o.result is UNKNOWN]
        self.taken = 0
        end = len(self.closed)
        # Number `end` is the list's two ends.
        self._next = list(range(1, end + 1)) + [0]
        self._previous = [end] + list(range(end))
        self.left = end

    def candidates(self):
        """Numbers of the operations that may be next: none that is left ended before they began."""
        end = len(self.closed)
        first_end = math.inf
        number = self._next[end]
        found = []
        while number != end and self.closed[number].invoked <= first_end:
            found.append(number)
            first_end = min(first_end, self.closed[number].returned)
            number = self._next[number]
        # Last those that need not be taken; of equal ones the first will do.
        seen = set()
        for i, operation in enumerate(self.open):
            if operation.invoked > first_end:
                break
            effect = (operation.kind, operation.argument)
            if not self.taken >> (end + i) & 1 and effect not in seen:
                seen.add(effect)
                found.append(end + i)
        return found

    def operation(self, number):
        end = len(self.closed)
        return self.closed[number] if number < end else self.open[number - end]

    def take(self, number):
        self.taken |= 1 << number
        if number < len(self.closed):
            self.left -= 1
            self._next[self._previous[number]] = self._next[number]
            self._previous[self._next[number]] = self._previous[number]

    def put_back(self, number):
        self.taken &= ~(1 << number)
        if number < len(self.closed):
            self.left += 1
            self._next[self._previous[number]] = number
            self._previous[self._next[number]] = number


def check(model, operations, steps_max=STEPS_MAX):
    """None if the history is linearizable, else a text that says how far it is. Undecided if the
    search takes more than steps_max."""
    probable = model.happened(operations)
    if len(probable) < len(operations):
        try:
            if _check(model, probable, steps_max) is None:
                return None
        except Undecided:
            pass
    return _check(model, operations, steps_max)


def _check(model, operations, steps_max):
    search = _Search(operations)
    state = model.initial
    tried = set()
    stack = []  # (number, the state before it, the candidates after it)
    candidates = iter(search.candidates())
    furthest, stuck = search.left + 1, ""
    steps = 0
    while search.left > 0:
        steps += 1
        if steps > steps_max:
            raise Undecided(f"{len(operations)} operations, {len(search.open)} without outcome")
        if search.left < furthest:
            furthest, stuck = search.left, _describe(search, state)
        number = next(candidates, None)
        if number is None:
            if not stack:
                fit = len(search.closed) - furthest
                return f"{fit} of {len(search.closed)} operations fit; {stuck}"
            number, state, candidates = stack.pop()
            search.put_back(number)
            continue
        after = model.step(state, search.operation(number))
        if after is REFUSED or (search.taken | 1 << number, after) in tried:
            continue
        tried.add((search.taken | 1 << number, after))
        stack.append((number, state, candidates))
        search.take(number)
        state = after
        candidates = iter(search.candidates())
    return None


def _describe(search, state):
    lines = [f"  {search.operation(number)}" for number in search.candidates()]
    return "\n".join([f"at {state!r} none of these could be next:", *lines])
