"""The tools around a cluster: cluster.py from the command line, the smoke test, catenactl."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import Cluster, binary_directory, free_base_port
from processes import wait_until

HERE = Path(__file__).resolve().parent


def catenactl(cluster, *arguments):
    return subprocess.run([str(binary_directory() / "catenactl"), "--config", str(cluster.config),
                           *arguments], capture_output=True, text=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL)


def is_running(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


@pytest.fixture(name="up")
def cluster_up(tmp_path):
    """cluster.py up as a process, and what it printed."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "cluster.py"), "up", "--base-port", str(free_base_port()),
         "--dir", str(tmp_path / "c"), "--redis-args", "--maxmemory 100mb", "--set",
         "coordinator.lease=800ms", "--set", "chain.limits.backlog_bytes=1mb"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line, "cluster.py printed nothing"
    yield process, json.loads(line)
    process.kill()
    process.wait()


def all_pids(described):
    return ([n[key] for n in described["nodes"] for key in ("proxy_pid", "backend_pid")] +
            [c["pid"] for c in described["coordinators"]] + [e["pid"] for e in described["etcd"]])


def test_smoke():
    done = subprocess.run([sys.executable, str(HERE / "smoke.py")], capture_output=True, text=True,
                          timeout=180, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def test_smoke_fails_without_programs(tmp_path):
    done = subprocess.run([sys.executable, str(HERE / "smoke.py")], capture_output=True, text=True,
                          timeout=180, check=False, stdin=subprocess.DEVNULL,
                          env=dict(os.environ, CATENA_BIN=str(tmp_path)))
    assert done.returncode != 0
    assert "catena-" in done.stderr


def test_up_describes_a_whole_chain(up):
    _, described = up
    assert [node["id"] for node in described["nodes"]] == ["n1", "n2", "n3"]
    node = described["nodes"][0]
    assert set(node) == {"id", "clients", "peers", "admin", "backend", "proxy_pid", "proxy_argv",
                         "backend_pid", "backend_argv"}
    assert set(described["coordinators"][0]) == {"listen", "admin", "pid", "argv"}
    assert set(described["etcd"][0]) == {"client", "pid", "argv"}
    host, port = node["clients"].split(":")
    for command in (["SET", "k", "v"], ["GET", "k"]):
        subprocess.run(["redis-cli", "-e", "-h", host, "-p", port, *command], check=True,
                       timeout=30, capture_output=True)
    text = Path(described["config"]).read_text(encoding="utf-8")
    assert 'lease = "800ms"' in text
    assert 'backlog_bytes = "1mb"' in text
    port = node["backend"].split(":")[1]
    maxmemory = subprocess.run(["redis-cli", "-p", port, "CONFIG", "GET", "maxmemory"], check=True,
                               capture_output=True, text=True).stdout
    assert maxmemory.split() == ["maxmemory", str(100 << 20)]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of input", "SIGKILL"])
def test_up_leaves_nothing_behind(up, how):
    process, described = up
    pids = all_pids(described)
    assert all(map(is_running, pids))
    if how == "end of input":
        process.stdin.close()
    else:
        process.send_signal(getattr(signal, how))
    process.wait(30)
    assert process.returncode == (-signal.SIGKILL if how == "SIGKILL" else 0)
    wait_until(lambda: not any(map(is_running, pids)), 10, "everything is gone")


def test_an_argv_starts_its_process_again(up):
    _, described = up
    node = described["nodes"][-1]
    os.kill(node["proxy_pid"], signal.SIGKILL)
    host, port = node["clients"].split(":")

    def answers():
        return subprocess.run(["redis-cli", "-e", "-h", host, "-p", port, "SET", "k", "v"],
                              capture_output=True, check=False, timeout=30).returncode == 0

    assert not answers()
    again = subprocess.Popen(node["proxy_argv"], stdout=subprocess.DEVNULL, cwd="/",
                             stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env={})
    try:
        wait_until(answers, 30, "the proxy started again serves writes", interval=0.1)
    finally:
        again.kill()
        again.wait()


def test_up_says_what_is_wrong(tmp_path):
    for arguments, wanted in ((["--set", "nowhere.x=1"], "no table 'nowhere'"),
                              (["--set", "chain.consistency=strong"], "allowed: linearizable"),
                              (["--bin", str(tmp_path)], "catena-")):
        done = subprocess.run([sys.executable, str(HERE / "cluster.py"), "up", "--timeout", "20",
                               *arguments], capture_output=True, text=True, timeout=60, check=False,
                              stdin=subprocess.PIPE)
        assert done.returncode != 0
        assert wanted in done.stderr
        assert done.stdout == ""


# --- catenactl ---


def test_status_json(cluster):
    done = catenactl(cluster, "status", "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert status["cluster"] == "catena" and status["etcd_healthy"]
    assert status["leader"] == cluster.coordinators[0].address
    (chain,) = status["chains"]
    assert [m["id"] for m in chain["record"]["configuration"]["members"]] == ["n1", "n2", "n3"]
    assert [n["report"]["phase"] for n in chain["nodes"]] == ["member"] * 3
    only = json.loads(catenactl(cluster, "status", "--json", "--chain", "main").stdout)
    assert [chain["chain"] for chain in only["chains"]] == ["main"]


def test_status_for_people(cluster):
    done = catenactl(cluster, "status")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert [rows[role][1] for role in ("head", "middle", "tail")] == ["n1", "n2", "n3"]
    assert "7." in done.stdout and "healthy" in done.stdout
    assert "\033" not in done.stdout
    unknown = catenactl(cluster, "status", "--chain", "nothing")
    assert unknown.returncode == 1 and "no chain nothing" in unknown.stderr


def test_check_of_a_whole_cluster(cluster):
    done = catenactl(cluster, "check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("ok ") == 1 + 1 + 1 + 3 + 3


def test_check_names_what_is_wrong(tmp_path):
    with Cluster(nodes=2, directory=tmp_path / "c") as cluster:
        cluster.tail().proxy.kill()
        cluster.head().redis.pause()
        done = catenactl(cluster, "check")
        assert done.returncode == 1
        wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
        assert any("proxy n2" in line and "refused" in line for line in wrong), wrong
        assert any("backend of n1" in line and "in time" in line for line in wrong), wrong
        cluster.head().redis.resume()

        # Somebody with another secret is told so, and nothing else.
        other = tmp_path / "other"
        other.mkdir()
        (other / "secret").write_text("another secret", encoding="ascii")
        (other / "catena.toml").write_text(cluster.config.read_text(encoding="utf-8"),
                                           encoding="utf-8")
        cluster.config = other / "catena.toml"
        done = catenactl(cluster, "status")
        assert done.returncode == 1 and "no coordinator answers" in done.stderr
        assert "secret" in done.stderr.lower()


def test_choose_only_when_it_is_needed(cluster):
    for arguments, wanted in ((["main", "nobody"], "allowed: n1, n2, n3"),
                              (["other", "n1"], "belongs to chain main"),
                              (["main", "n2", "--yes"], "is not waiting for a decision")):
        done = catenactl(cluster, "choose", *arguments)
        assert done.returncode == 1
        assert wanted in done.stderr
    assert cluster.problem_with() is None


def answer_on_terminal(cluster, answers, *arguments):
    """catenactl's exit code and output with a terminal at its input, into which `answers` go."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answers.encode())
        done = subprocess.run([str(binary_directory() / "catenactl"), "--config",
                               str(cluster.config), *arguments], stdin=theirs, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              check=False)
        return done.returncode, done.stdout
    finally:
        os.close(ours)
        os.close(theirs)


def test_choose_when_everything_was_lost_at_once(tmp_path):
    """Every proxy and every Redis is gone at once and comes back from its AOF: somebody decides."""
    with Cluster(nodes=2, directory=tmp_path / "c",
                 redis_args=["--appendonly", "yes", "--appendfsync", "always"]) as cluster:
        head, tail = cluster.members()
        head.redis_client().set("kept", "yes")
        for process in (head.proxy, tail.proxy, head.redis, tail.redis):
            process.kill()
        for node in (head, tail):
            node.redis.start()
            node.proxy.start()
        wait_until(lambda: "choose" in cluster.chain_status()["waiting_for"], 30,
                   lambda: f"an operator is asked for: {cluster.chain_status()['waiting_for']}")
        choice = ("choose", "main", head.id)

        refused = catenactl(cluster, *choice)
        assert refused.returncode == 1 and "no terminal" in refused.stderr
        for answers in ("yes\nyes\n", f"{head.id}\nno\n", f"{tail.id}\nyes\n"):
            code, output = answer_on_terminal(cluster, answers, *choice)
            assert code == 1 and "nothing was done" in output
            assert "is lost" in output
        assert "choose" in cluster.chain_status()["waiting_for"]

        code, output = answer_on_terminal(cluster, f"{head.id}\nyes\n", *choice)
        assert code == 0, output
        cluster.wait_whole()
        assert cluster.members()[0].id == head.id
        for node in cluster.nodes:
            assert node.redis_client().get("kept") == b"yes"


def test_status_with_no_coordinator(tmp_path):
    with Cluster(nodes=1, coordinators=2, directory=tmp_path / "c") as cluster:
        for coordinator in cluster.coordinators:
            coordinator.kill()
        done = catenactl(cluster, "status")
        assert done.returncode == 1
        for coordinator in cluster.coordinators:
            assert f"{coordinator.address}: Connection refused" in done.stderr


def test_status_follows_to_the_leader(tmp_path):
    with Cluster(nodes=1, coordinators=3, directory=tmp_path / "c") as cluster:
        leader = cluster.status()["leader"]
        next(c for c in cluster.coordinators if c.address == leader).kill()

        def another():
            status = cluster.status()
            return status and status["leader"] not in ("", leader)

        wait_until(another, 20, "another coordinator leads and catenactl finds it")
        cluster.wait_whole()


def test_a_wrong_file_is_refused_with_its_place(tmp_path, cluster):
    text = cluster.config.read_text(encoding="utf-8")
    text = text.replace("[[chain]]", "[[chain]]\nreplica = 2", 1)
    (tmp_path / "secret").write_text("a secret of some length", encoding="ascii")
    (tmp_path / "wrong.toml").write_text(text, encoding="utf-8")
    line = text.splitlines().index("replica = 2") + 1
    for program, arguments in (("catenactl", ["check"]), ("catena-proxy", ["--node", "n1"]),
                               ("catena-coordinator", ["--listen", "127.0.0.1:1"])):
        done = subprocess.run([str(binary_directory() / program), "--config",
                               str(tmp_path / "wrong.toml"), *arguments], capture_output=True,
                              text=True, timeout=30, check=False)
        assert done.returncode != 0
        assert f"wrong.toml:{line}:1: unknown key replica" in done.stderr, (program, done.stderr)
