#!/usr/bin/python3
"""Measures Catena beside what people would use instead, in one command.

    integration/bench/run.py [PART ...] [--quick] [--only NAME,NAME] [--json FILE] [--out DIR]

Starts every server itself, measures in alternating rounds (A B A B: what counts is the ratio of the
medians), prints Markdown with the targets and whether each is met, and leaves rows.json, series.json,
results.md and PNG plots in --out. A row is {"name", "subject", "rival", "ratio", "subject_value",
"rival_value", "unit"} and the lowest and highest round of both. Runs the programs of build/release
or $CATENA_BIN.
"""

import argparse
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from cost import Cost  # noqa: E402
from craq import PAPER_RATE, Craq  # noqa: E402
from embedded import Embedded  # noqa: E402
from encryption import Encryption  # noqa: E402
from fleet import Fleet  # noqa: E402
from instructions import Instructions  # noqa: E402
from plots import write_plots  # noqa: E402
from processes import Failed  # noqa: E402
from report import Output  # noqa: E402
from throughput import MIXES, Axes, Grid, Targets  # noqa: E402
from throttle import ahead_of_others, check_quotas  # noqa: E402
from timelines import Timelines  # noqa: E402
from yardstick import Yardstick  # noqa: E402

# In the order in which they run; the idle chain comes first, before anybody has used it.
PARTS = {
    "idle": (Cost, ("idle",)),
    "targets": (Targets, ("get_p1", "get_p16", "get_latency", "set_c50", "set_latency", "set_p16")),
    "grid": (Grid, ("grid",)),
    "cost": (Cost, ("system_calls", "bytes_per_write", "cpu_get", "cpu_set", "cpu_chain",
                    "memory")),
    "tls": (Encryption, ("tls",)),
    "metrics": (Cost, ("metrics",)),
    "rocksdb": (Embedded, ("rocksdb",)),
    "craq": (Craq, ("craq_reads", "craq_hot_500", "craq_uniform_500", "craq_hot_5000")),
    "killed": (Timelines, ("craq_killed",)),
    "failover": (Timelines, ("failover_head", "failover_middle", "failover_tail")),
    "join": (Timelines, ("join",)),
    "generator": (Yardstick, ("generator",)),
    "instructions": (Instructions, ("instructions",)),
}
# Only when asked for: one wants valgrind, the other minutes even when quick.
_SLOW = ("instructions", "rocksdb")
MEASUREMENTS = {name: part for part, (_, names) in PARTS.items() for name in names}


@dataclass(frozen=True)
class Pace:
    """How long and how often; the defaults are those of a thorough run, about an hour and a half."""
    rounds: int = 7
    seconds: float = 1.5         # of a round
    target_rounds: int = 11
    grid_rounds: int = 3
    axes: Axes = Axes()
    lengths: tuple = (1, 3, 5, 7)
    write_lengths: tuple = (3, 5, 7)  # of the chains whose readers meet a writer
    write_shares: tuple = (0, 0.005, 0.01, PAPER_RATE, 0.05, 0.1, 0.3)  # of one node's reads
    failover_seconds: float = 15
    killed_at: float = 15        # as in the paper
    join_bytes: int = 1_000_000_000
    idle_seconds: float = 20
    traced_operations: int = 5000
    memory_keys: int = 1_000_000
    embedded_bytes: int = 1 << 30  # of values in each RocksDB


QUICK = Pace(rounds=3, seconds=0.5, target_rounds=5, grid_rounds=1,
             axes=Axes(lengths=(3,), modes=("linearizable",), connections=(50,), sizes=(64,)),
             lengths=(1, 3, 7), write_lengths=(3,), write_shares=(0, PAPER_RATE, 0.1), failover_seconds=5, killed_at=3,
             join_bytes=100_000_000, idle_seconds=4, traced_operations=500, memory_keys=200_000,
             embedded_bytes=64 << 20)
# Shows that everything runs; its figures mean nothing.
SMOKE = replace(QUICK, rounds=1, seconds=0.1, target_rounds=1, lengths=(1, 3),
                write_shares=(PAPER_RATE,), failover_seconds=3, killed_at=2.5,
                join_bytes=5_000_000, idle_seconds=0.5, traced_operations=50, memory_keys=5_000, embedded_bytes=8 << 20,
                axes=replace(QUICK.axes, mixes=("mix",), pipelines=(16,)))


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0],
                                     epilog=f"measurements: {', '.join(MEASUREMENTS)}")
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=f"{', '.join(PARTS)}; without any: all but {', '.join(_SLOW)}")
    parser.add_argument("--only", metavar="NAME,...", help="these measurements instead of parts")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", action="store_true", help="everything in under five minutes")
    pace.add_argument("--smoke", action="store_true", help="only shows that everything runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR",
                        help="for all results (build/bench)")
    parser.add_argument("--ahead", action="store_true",
                        help="take the CPU before all others (root), where others work")
    axes = parser.add_argument_group("the grid's axes; the first value of each is the common point")
    axes.add_argument("--full-grid", action="store_true",
                      help="every combination; else each axis by itself, from the common point")
    for field, kind in (("lengths", int), ("positions", str), ("modes", str), ("mixes", str),
                        ("pipelines", int), ("connections", int), ("sizes", int)):
        axes.add_argument(f"--{field}", type=_list_of(kind), metavar="A,B",
                          help=",".join(str(value) for value in getattr(Axes(), field)))
    return parser, parser.parse_args()


def _list_of(kind):
    def parse(text):
        return tuple(kind(word) for word in text.split(","))

    return parse


def _pace(arguments, parser):
    pace = QUICK if arguments.quick else SMOKE if arguments.smoke else Pace()
    given = {field: getattr(arguments, field) for field in Axes.__dataclass_fields__
             if getattr(arguments, field, None)}
    allowed = {"positions": Axes.positions, "modes": Axes.modes, "mixes": tuple(MIXES)}
    for field, values in allowed.items():
        for value in given.get(field, ()):
            if value not in values:
                parser.error(f"--{field} {value}: allowed: {', '.join(values)}")
    return replace(pace, axes=replace(pace.axes, product=arguments.full_grid, **given))


def _chosen(arguments, parser):
    """Names of measurements."""
    if arguments.only and arguments.parts:
        parser.error("name parts or --only, not both")
    wanted = arguments.only.split(",") if arguments.only else arguments.parts
    if not wanted:
        wanted = [part for part in PARTS if part not in _SLOW]
    known = MEASUREMENTS if arguments.only else PARTS
    for name in wanted:
        if name not in known:
            parser.error(f"{name}: allowed: {', '.join(known)}")
    if arguments.only:
        return wanted
    return [name for part in PARTS if part in wanted for name in PARTS[part][1]]


def _measure(names, pace, output):
    if any(name.startswith("craq_") for name in names):
        check_quotas()  # now, not after half an hour
    with Fleet() as fleet:
        parts = {part: made(fleet, pace, output) for part, (made, _) in PARTS.items()}
        for name in names:
            begun = time.monotonic()
            for row in getattr(parts[MEASUREMENTS[name]], name)():
                output.add(row)
                print(f"{row['name']}: {row['subject']} {row['subject_value']:g}, {row['rival']} "
                      f"{row['rival_value']:g} {row['unit']}, ratio {row['ratio']}",
                      file=sys.stderr, flush=True)
            print(f"-- {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def main():
    parser, arguments = _parse()
    names, pace = _chosen(arguments, parser), _pace(arguments, parser)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    output = Output()
    try:
        with ahead_of_others() if arguments.ahead else nullcontext():
            _measure(names, pace, output)
    except Failed as problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 1
    output.write(arguments.out)
    if arguments.json:
        output.write_rows(arguments.json)
    write_plots(output, arguments.out)
    print(output.markdown(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
