"""Rows and series of a run: kept, written as JSON and Markdown, held against the targets."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    row: str
    sign: str  # ">=" or "<="
    bound: float
    text: str

    def met(self, ratio):
        return ratio >= self.bound if self.sign == ">=" else ratio <= self.bound


TARGETS = (
    Target("get_p1", ">=", 1.0, "GET through one proxy, 50 connections, P=1, against plain Redis"),
    Target("get_p16", ">=", 0.6, "GET through one proxy, 50 connections, P=16, against plain Redis"),
    Target("get_latency", "<=", 2.0, "GET, one connection, median latency, against plain Redis"),
    Target("set_c50", ">=", 1.2, "acknowledged SET on a chain of three, 50 connections, against "
           "Redis + 2 replicas + WAIT 2"),
    Target("set_latency", "<=", 1.2, "the same, one connection, median latency"),
    Target("set_p16", ">=", 0.5, "SET on a chain of three, P=16, against Redis + 2 asynchronous "
           "replicas"),
    Target("craq_reads_x3", ">=", 2.7, "reads at three nodes, no writes, against `tail` mode"),
    Target("craq_hot_500_w2", ">=", 2.3, "the same beside a writer on the same hot key"),
    Target("cpu_set_node_x7", "<=", 1.1, "CPU of a write at a middle node of seven, against three, "
           "P=16"),
    Target("cpu_set_alone_x7", "<=", 1.1, "the same, one write at a time"),
    Target("idle_cpu", "<=", 1.0, "CPU of an idle proxy, against 0.5 % of a core"),
    Target("idle_messages", "<=", 1.0, "messages of an idle chain of three, against 100 a second"),
)


class Output:
    def __init__(self):
        self.rows = []
        self.named_series = {}

    def add(self, row):
        self.rows.append(row)

    def series(self, name, points):
        """What a plot is drawn from."""
        self.named_series[name] = points

    def write_rows(self, path):
        _write_json(path, self.rows)

    def write(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.write_rows(directory / "rows.json")
        _write_json(directory / "series.json", self.named_series)
        (directory / "results.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self):
        parts = [lines for lines in (self._targets(), _table(self.rows)) if lines]
        return "\n\n".join("\n".join(lines) for lines in parts) + "\n"

    def _targets(self):
        rows = {row["name"]: row for row in self.rows}
        measured = [target for target in TARGETS if target.row in rows]
        if not measured:
            return []
        lines = ["| target | wanted | measured | rounds | |", "|---|---|---|---|---|"]
        for target in measured:
            row = rows[target.row]
            twemproxy = rows.get(f"{target.row}_twemproxy")
            beside = f" (twemproxy {twemproxy['ratio']:.2f})" if twemproxy else ""
            sign = {">=": "≥", "<=": "≤"}[target.sign]
            lines.append(f"| {target.text} | {sign} {target.bound:g} | "
                         f"**{row['ratio']:.2f}**{beside} | {_spread(row)} | "
                         f"{'met' if target.met(row['ratio']) else '**not met**'} |")
        return lines


def _table(rows):
    lines = ["| measurement | subject | rival | ratio |", "|---|---|---|---|"]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(f"| {row['name']} | {row['subject']}: {_number(row['subject_value'])} "
                     f"{row['unit']} | {row['rival']}: {_number(row['rival_value'])} | {ratio} |")
    return lines


def _spread(row):
    """The lowest and highest ratio that some two rounds could have given."""
    (low, high), (rival_low, rival_high) = row["subject_spread"], row["rival_spread"]
    if not rival_low:
        return ""
    return f"{low / rival_high:.2f} to {high / rival_low:.2f}"


def _number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
