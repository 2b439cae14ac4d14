#!/usr/bin/python3
"""Catena beside what people would use instead, in one command.

    integration/bench/run.py [PART ...] [--quick] [--only NAME,NAME] [--json FILE]

Starts every server itself, measures in alternating rounds, prints a Markdown table.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from fleet import Fleet  # noqa: E402
from throughput import Targets  # noqa: E402

MEASUREMENTS = ("get_p1", "get_p16", "get_latency", "set_c50", "set_latency", "set_p16")


@dataclass
class Pace:
    rounds: int
    seconds: float


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help=",".join(MEASUREMENTS))
    parser.add_argument("--json")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else MEASUREMENTS
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"--only {unknown[0]}: allowed: {', '.join(MEASUREMENTS)}")
    pace = Pace(5, 0.5) if arguments.quick else Pace(7, 1.0)
    rows = []
    begun = time.monotonic()
    with Fleet() as fleet:
        targets = Targets(fleet, pace)
        for name in names:
            for row in getattr(targets, name)().rows(pace.rounds):
                rows.append(row)
                print(row["name"], row["ratio"], row["subject_value"], row["rival_value"],
                      row["unit"], flush=True)
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
