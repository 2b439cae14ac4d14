"""The benchmark suite runs and leaves well-formed results; its generator counts and times rightly.

How fast anything is, is not tested here: other work on the machine would decide it.
"""

import json
import subprocess
import sys
import time

import pytest

from cluster import ROOT, free_base_port
from processes import Failed, Process, wait_until

BENCH = ROOT / "integration" / "bench"
sys.path.insert(0, str(BENCH))
import run  # noqa: E402
from fleet import Fleet  # noqa: E402
from loader import Load, Shape  # noqa: E402
from report import TARGETS, Output  # noqa: E402
from rounds import Comparison, Contender  # noqa: E402
from throttle import check_quotas  # noqa: E402
from throughput import Axes  # noqa: E402

ROW = {"name": str, "subject": str, "rival": str, "ratio": float, "subject_value": float,
       "rival_value": float, "unit": str}


@pytest.fixture(name="server")
def _server(tmp_path):
    port = free_base_port()
    process = Process("redis", ["redis-server", "--port", str(port), "--save", "", "--dir",
                                str(tmp_path)], tmp_path / "redis.log")
    process.address = f"127.0.0.1:{port}"
    process.client = Fleet.client(process.address)
    process.start()
    try:
        wait_until(lambda: _answers(process), 10, "redis answers")
        yield process
    finally:
        process.kill()


def _answers(server):
    try:
        return server.client.ping()
    except OSError:
        return False
    except Exception as error:  # pylint: disable=broad-except
        assert "onnection" in str(error)
        return False


def _gets(server):
    return server.client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]


def _may_set_quotas():
    try:
        check_quotas()
        return True
    except Failed:
        return False


# --- the suite ---

def test_every_part_runs_and_leaves_rows_plots_and_a_table(tmp_path):
    names = "get_p1,set_c50,grid,bytes_per_write,cpu_get,failover_tail,join,generator"
    if _may_set_quotas():
        names += ",craq_hot_500"
    done = subprocess.run([BENCH / "run.py", "--smoke", "--only", names, "--out", tmp_path,
                           "--json", tmp_path / "copy.json"], capture_output=True, text=True,
                          timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows == json.loads((tmp_path / "copy.json").read_text())
    for row in rows:
        assert {key: type(row[key]) for key in ROW} == ROW, row
        low, high = row["subject_spread"]
        assert low <= row["subject_value"] <= high
    found = {row["name"] for row in rows}
    assert {"get_p1", "get_p1_head", "set_c50", "grid_mix_p16_c50_64b_x3_middle",
            "cpu_get_p16_redis", "failover_tail_writes", "join_reads_p99",
            "generator_p16", "bytes_head_proxy_to_middle_proxy"} <= found
    assert ("craq_hot_500_w2" in found) == _may_set_quotas()
    assert len(found) == len(rows)
    for plot in ("targets", "grid", "failover_tail", "join"):
        assert (tmp_path / f"{plot}.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert done.stdout == (tmp_path / "results.md").read_text()
    assert "GET through one proxy, 50 connections, P=1" in done.stdout


@pytest.mark.parametrize("arguments, allowed", [
    (["--only", "get_p2"], "get_p16"), (["unknown"], "targets"), (["--modes", "strong"], "eventual"),
    (["grid", "--only", "get_p1"], "not both")])
def test_a_wrong_choice_is_refused_with_what_is_allowed(arguments, allowed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as end:
        run.main()
    assert end.value.code == 2
    assert allowed in capsys.readouterr().err


def test_rounds_alternate_and_medians_are_compared():
    order = []
    values = {"ours": iter([6, 1, 5]), "theirs": iter([2, 100, 1])}

    def contender(name):
        return Contender(name, lambda: order.append(name) or next(values[name]))

    row, = Comparison(contender("theirs"), {"one": contender("ours")}, "x").rows(3)
    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert (row["subject_value"], row["rival_value"], row["ratio"]) == (5, 2, 2.5)
    assert row["rival_spread"] == [1, 100]


def test_the_table_says_whether_a_target_is_met():
    output = Output()
    for target in TARGETS[:3]:
        output.add({"name": target.row, "subject": "s", "rival": "r", "ratio": 1.0, "unit": "u",
                    "subject_value": 1.0, "rival_value": 1.0, "subject_spread": [1, 2],
                    "rival_spread": [1, 2]})
    lines = output.markdown().splitlines()[2:5]
    assert [line.split("|")[-2].strip() for line in lines] == ["met", "met", "met"]
    output.rows[2]["ratio"] = 2.1  # a latency: less is better
    assert output.markdown().splitlines()[4].endswith("| **not met** |")


def test_the_grid_spans_each_axis_or_all_combinations():
    axes = Axes(mixes=("get", "set"), modes=("linearizable", "tail"), pipelines=(1, 16),
                lengths=(3, 1), connections=(50,), sizes=(64,))
    # Reads: the common point and three others; writes not in another mode.
    assert len(axes.cells()) == 4 + 3
    full = Axes(**{**vars(axes), "product": True}).cells()
    assert len(full) == len(set(full)) == 8 + 4


# --- the generator ---

def test_what_the_generator_counts_is_what_the_server_executed(server):
    shape = Shape(mix="get=90,set=10", connections=7, pipeline=3)
    with Load([server.address], shape, "--operations", 5000) as load:
        result = load.result()
    stats = server.client.info("commandstats")
    assert result["read_us"]["count"] == stats["cmdstat_get"]["calls"]
    assert result["write_us"]["count"] == stats["cmdstat_set"]["calls"]
    assert result["operations"] == 5000
    assert 0 < result["misses"] <= result["read_us"]["count"]


def test_a_server_that_stands_still_shows_in_every_command_that_was_due(server):
    """Coordinated omission, with a real pause: at 1,000 a second for 2 s, a pause of 1 s meets half
    of all commands, though only as many as may be under way were ever sent into it."""
    shape = Shape(connections=2, pipeline=5, rate=1000)
    with Load([server.address], shape, "--seconds", 2, "--warmup", 0.2) as load:
        time.sleep(0.7)
        server.pause()
        time.sleep(1)
        server.resume()
        result = load.result()
    assert result["operations"] > 1500
    assert result["latency_us"]["p90"] > 500_000
    assert result["service_us"]["p90"] < 500_000


def test_the_generator_goes_on_at_the_next_target(server, tmp_path):
    port = free_base_port()
    other = Process("other", ["redis-server", "--port", str(port), "--save", "", "--dir",
                              str(tmp_path)], tmp_path / "other.log")
    other.client = Fleet.client(f"127.0.0.1:{port}")
    other.start()
    try:
        wait_until(lambda: _answers(other), 10, "the other redis answers")
        shape = Shape(connections=4, rate=1000, pipeline=100)
        with Load([f"127.0.0.1:{port}", server.address], shape, "--seconds", 600,
                  "--warmup", 0, "--reconnect") as load:
            wait_until(lambda: server.client.info("clients")["connected_clients"] >= 3, 10,
                       "half of the connections are here")
            other.kill()
            wait_until(lambda: server.client.info("clients")["connected_clients"] >= 5, 10,
                       "all connections are here")
            before = _gets(server)
            wait_until(lambda: _gets(server) > before + 500, 10, "the load goes on here")
            result = load.end()
    finally:
        other.kill()
    assert set(result["errors"]) <= {"connection lost"}
    assert result["operations"] > 500


def test_without_leave_to_reconnect_a_broken_connection_is_an_error(server):
    load = Load([server.address], Shape(), "--seconds", 600)
    with load:
        wait_until(lambda: server.client.info("clients")["connected_clients"] >= 51, 10,
                   "the load runs")
        server.kill()
        with pytest.raises(Exception, match="connection"):
            load.result(20)
