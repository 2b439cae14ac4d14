"""Measuring in alternating rounds: A B A B. The machine's mood then meets all contenders alike, and
what counts is the ratio of their medians."""

import statistics
from dataclasses import dataclass
from typing import Callable


@dataclass
class Contender:
    label: str
    run: Callable[[], float]  # one round


@dataclass
class Comparison:
    """subjects: {row name: Contender}, each compared with the rival."""
    rival: Contender
    subjects: dict
    unit: str

    def rows(self, count):
        contenders = [self.rival, *self.subjects.values()]
        values = [[] for _ in contenders]
        for turn in range(count):
            order = list(enumerate(contenders))
            # There and back, so that a steady drift does not favour whoever comes first.
            for number, contender in order if turn % 2 == 0 else reversed(order):
                values[number].append(contender.run())
        for number, name in enumerate(self.subjects, 1):
            yield row(name, contenders[number].label, self.rival.label, values[number], values[0],
                      self.unit)


def row(name, subject, rival, subject_values, rival_values, unit):
    """What --json holds for one comparison; values: of the rounds."""
    ours, theirs = statistics.median(subject_values), statistics.median(rival_values)
    return {"name": name, "subject": subject, "rival": rival,
            "ratio": round(ours / theirs, 3) if theirs else None,
            "subject_value": _short(ours), "rival_value": _short(theirs), "unit": unit,
            "subject_spread": [_short(min(subject_values)), _short(max(subject_values))],
            "rival_spread": [_short(min(rival_values)), _short(max(rival_values))]}


def _short(value):
    return float(f"{value:.5g}")
