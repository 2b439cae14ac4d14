"""PNG plots of a run, one file each, from the rows and series of report.Output."""

import math

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from report import TARGETS  # noqa: E402

_MET, _MISSED = "#2a7f3f", "#b03030"


def write_plots(output, directory):
    """The paths of the files; what was not measured is not drawn."""
    rows = {row["name"]: row for row in output.rows}
    drawn = [_targets(rows, directory), _grid(output.rows, directory)]
    for name, series in output.named_series.items():
        draw = {"craq_reads": _reads_by_length, "cpu_set_node": _cost_by_length,
                "cpu_set_alone": _cost_by_length}.get(name)
        if draw is None:
            draw = _timeline if isinstance(series, dict) else _reads_beside_writes
        drawn.append(draw(name, series, directory))
    return [path for path in drawn if path]


def _save(figure, directory, name):
    path = directory / f"{name}.png"
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _bars(labels, values, colours, title, directory, name):
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.3 * len(labels)))
    axes.barh(labels, values, color=colours)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel(title)
    for place, value in enumerate(values):
        axes.text(value, place, f" {value:.2f}", va="center", fontsize=8)
    return _save(figure, directory, name)


def _targets(rows, directory):
    measured = [target for target in TARGETS if target.row in rows]
    if not measured:
        return None
    ratios = [rows[target.row]["ratio"] for target in measured]
    labels = [f"{target.row} (wanted {target.sign} {target.bound:g})" for target in measured]
    colours = [_MET if target.met(ratio) else _MISSED for target, ratio in zip(measured, ratios)]
    return _bars(labels, ratios, colours, "ratio to the rival", directory, "targets")


def _grid(rows, directory):
    grid = [row for row in rows if row["name"].startswith("grid_")]
    if not grid:
        return None
    return _bars([row["name"][5:] for row in grid], [row["ratio"] for row in grid], "#4477aa",
                 "throughput, plain Redis = 1", directory, "grid")


def _reads_by_length(name, series, directory):
    figure, axes = pyplot.subplots(figsize=(6, 4))
    nodes = [point["nodes"] for point in series]
    axes.plot(nodes, [point["craq"] for point in series], "o-", label="reads at every node (CRAQ)")
    axes.plot(nodes, [point["tail"] for point in series], "s-", label="tail mode (CR)")
    axes.set(xlabel="nodes, each with the same quota of CPU", ylabel="reads/s", xticks=nodes,
             ylim=(0, None))
    axes.legend()
    return _save(figure, directory, name)


def _reads_beside_writes(name, series, directory):
    figure, axes = pyplot.subplots(figsize=(6, 4))
    writes = [point["writes"] for point in series]
    craq = [point["craq"] for point in series]
    axes.plot(writes, craq, "o-", label="reads at every node (CRAQ)")
    clean = [point["craq"] * (1 - point["dirty"]) for point in series]
    axes.plot(writes, clean, ":", color="gray", label="of them clean reads")
    axes.plot(writes, [point["tail"] for point in series], "s-", label="tail mode (CR)")
    axes.set(xlabel="writes/s", ylabel="reads/s", ylim=(0, None), title=name)
    axes.legend()
    return _save(figure, directory, name)


def _cost_by_length(name, series, directory):
    figure, axes = pyplot.subplots(figsize=(6, 4))
    nodes = [point["nodes"] for point in series]
    for part in ("proxy", "redis"):
        axes.plot(nodes, [point[part] for point in series], "o-", label=f"middle node's {part}")
    axes.set(xlabel="nodes in the chain", ylabel="us of CPU a write", xticks=nodes, ylim=(0, None))
    axes.legend()
    return _save(figure, directory, name)


def _timeline(name, series, directory):
    figure, (rates, latencies) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5))
    for what in ("reads", "writes"):
        points = series[what]
        times = [point["at"] for point in points]
        step = times[1] - times[0] if len(times) > 1 else 1
        rates.plot(times, [point[what] / step for point in points], label=what)
        # Nothing answered, nothing to show: a gap.
        latencies.plot(times, [point["p99"] / 1000 if point[what] else math.nan
                               for point in points], ".-", label=what)
    for axes in (rates, latencies):
        for event, at in series["events"].items():
            axes.axvline(at, color="black", linewidth=0.8, linestyle="--")
            axes.text(at, axes.get_ylim()[1], f" {event}", va="top", fontsize=8)
    rates.set(ylabel="answers/s", title=name)
    latencies.set(ylabel="p99 in ms", xlabel="s", yscale="log")
    rates.legend()
    return _save(figure, directory, name)
