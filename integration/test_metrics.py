"""Admin ports: metrics, probes, the status page; dashboard and alerts against a real Prometheus."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import redis

from browser import Browser
from cluster import Cluster, binary_directory, free_base_port, http_get
from processes import Process, wait_until

OBSERVABILITY = Path(__file__).resolve().parent / "observability"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


@pytest.fixture(name="shared", scope="module")
def shared_cluster():
    with Cluster(nodes=3, coordinators=2, settings={"coordinator.lease": "1s"}) as started:
        yield started


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


class Samples:
    """What an admin port exports."""

    def __init__(self, address):
        status, self.text = http_get(address, "/metrics")
        assert status == 200, self.text
        self.values = {}
        for line in self.text.splitlines():
            if not line.startswith("#"):
                name, labels, value = _SAMPLE.match(line).groups()
                self.values[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))] = float(
                    value)

    def sum(self, name, **labels):
        chosen = [value for (each, its), value in self.values.items()
                  if each == name and set(labels.items()) <= its]
        assert chosen, f"no {name}{labels}"
        return sum(chosen)


def leader_of(cluster):
    return wait_until(lambda: next((each for each in cluster.coordinators if json.loads(
        http_get(each.admin, "/status.json")[1])["leads"]), None), 10, "a coordinator leads")


# --- metrics -------------------------------------------------------------------------------------


def test_every_port_passes_promtool(chain):
    for address in [n.admin for n in chain.nodes] + [c.admin for c in chain.coordinators]:
        done = subprocess.run(["promtool", "check", "metrics"], input=Samples(address).text,
                              capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert http_get(address, "/healthz") == (200, "ok\n")
        assert http_get(address, "/nothing")[0] == 404


def test_requests_count_by_class_result_and_sender(chain):
    head, tail = chain.head(), chain.tail()
    before = {node: Samples(node.admin) for node in (head, tail)}
    with tail.redis_client(single_connection_client=True) as client:
        for number in range(10):
            client.set("counted", number)
        for _ in range(5):
            client.get("counted")
        with pytest.raises(redis.ResponseError):
            client.lpush("counted", "x")
        client.eval("return 1", 0)
        client.info()
    after = {node: Samples(node.admin) for node in (head, tail)}

    def grown(node, name, **labels):
        return after[node].sum(name, **labels) - before[node].sum(name, **labels)

    requests = "catena_requests_total"
    assert grown(tail, requests, **{"class": "write", "result": "ok", "from": "client"}) == 10
    assert grown(tail, requests, **{"class": "write", "result": "error", "from": "client"}) == 1
    assert grown(head, requests, **{"class": "write", "result": "ok", "from": "proxy"}) == 10
    assert grown(head, requests, **{"class": "write", "from": "client"}) == 0
    assert grown(head, requests, **{"class": "script", "from": "proxy"}) == 1
    assert grown(tail, "catena_request_seconds_count", **{"class": "write"}) == 11
    reads = (grown(tail, requests, **{"class": "read"}) +
             grown(tail, requests, **{"class": "dirty_read"}))
    assert reads == 5
    assert grown(tail, "catena_linearizable_reads_total") == 5
    for stage in ("executed", "committed", "replied"):
        assert grown(head, "catena_write_stage_seconds_count", stage=stage) >= 10
    assert grown(head, "catena_link_bytes_total", link="successor", direction="out") > 300
    assert grown(tail, "catena_link_bytes_total", link="predecessor", direction="in") > 300
    assert after[head].sum("catena_role", role="head") == 1
    assert after[head].sum("catena_link_up", link="successor") == 1


def test_info_tells_the_same_numbers(chain):
    node = chain.tail()
    with node.redis_client(single_connection_client=True) as client:
        info = client.info("catena")
    samples = Samples(node.admin)
    # INFO itself is answered when it has been written.
    assert samples.sum("catena_requests_total") == info["catena_commands_processed"] + 1
    assert samples.sum("catena_linearizable_reads_total", state="clean") == info["catena_reads_clean"]
    assert samples.sum("catena_version_queries_total") == info["catena_version_queries"]
    assert samples.sum("catena_epoch") == info["catena_epoch"]


def test_back_pressure_has_a_cause(chain):
    """A client that reads no replies is held up."""
    node = chain.head()
    with node.redis_client(single_connection_client=True) as client:
        client.set("large", "x" * 1_000_000)
    host, port = node.clients.rsplit(":", 1)
    connection = redis.Connection(host=host, port=int(port))
    connection.connect()
    connection.send_packed_command([b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 200])
    connection.send_packed_command([b"*2\r\n$4\r\nECHO\r\n$100000\r\n" + b"y" * 100_000 + b"\r\n"] * 10)
    for _ in range(210):
        connection.read_response()
    connection.disconnect()
    wait_until(lambda: Samples(node.admin).sum("catena_backpressure_total",
                                               cause="client_replies") >= 1, 10, "a pause is told")
    assert Samples(node.admin).sum("catena_backpressure_seconds_total", cause="client_replies") > 0


# --- probes --------------------------------------------------------------------------------------


def test_readiness_follows_who_can_answer(chain):
    head, middle, tail = chain.wait_members()
    assert all(node.http("/readyz") == (200, "ready\n") for node in chain.nodes)
    for coordinator in chain.coordinators:
        coordinator.pause()
    for node in chain.nodes:
        wait_until(lambda n=node: Samples(n.admin).sum("catena_lease_left_seconds") == 0, 10,
                   f"the lease of {node} runs out")
    # The chain confirms that its members are current; that is asked for again and again.
    asked = Samples(middle.admin).sum("catena_verifies_total")
    wait_until(lambda: middle.http("/readyz")[0] == 200 and
               Samples(middle.admin).sum("catena_verifies_total") > asked + 2, 10, "verifies")
    tail.proxy.kill()
    wait_until(lambda: middle.http("/readyz")[0] == 503, 10, "the middle is not ready")
    assert "no lease, and no link to its successor" in middle.http("/readyz")[1]
    wait_until(lambda: head.http("/readyz")[0] == 503, 10, "the head is not ready")
    assert "the chain does not confirm" in head.http("/readyz")[1]
    for coordinator in chain.coordinators:
        coordinator.resume()
    wait_until(lambda: head.http("/readyz")[0] == 200, 10, "the head is ready")
    tail.proxy.start()
    chain.wait_whole()


def test_a_node_without_its_database_is_not_ready(chain):
    node = chain.tail()
    node.redis.kill()
    wait_until(lambda: node.http("/readyz")[0] == 503, 10, "not ready")
    assert "its database cannot be used" in node.http("/readyz")[1]
    assert node.http("/healthz")[0] == 200
    node.redis.start()
    chain.wait_whole()
    assert node.http("/readyz")[0] == 200


# --- Prometheus ----------------------------------------------------------------------------------


class Prometheus:
    """Scrapes a cluster once a second; rules fire after a second."""

    def __init__(self, cluster, directory):
        self.address = f"127.0.0.1:{free_base_port()}"
        rules = re.sub(r"for: \w+", "for: 1s", (OBSERVABILITY / "alerts.yml").read_text())
        (directory / "alerts.yml").write_text(rules)
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                  "rule_files": [str(directory / "alerts.yml")],
                  "scrape_configs": [
                      {"job_name": job, "static_configs": [{"targets": targets}]}
                      for job, targets in (
                          ("catena-proxy", [node.admin for node in cluster.nodes]),
                          ("catena-coordinator", [c.admin for c in cluster.coordinators]))]}
        (directory / "prometheus.yml").write_text(json.dumps(config))
        self.process = Process("prometheus", [
            "prometheus", f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data", f"--web.listen-address={self.address}",
            "--log.level=warn"], directory / "prometheus.log")

    def ask(self, path, **parameters):
        status, body = http_get(self.address, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, body
        return json.loads(body)["data"]

    def values(self, expression):
        """Of all series that have one now."""
        values = [float(each["value"][1]) for each in self.ask("query", query=expression)["result"]]
        return [value for value in values if value == value]

    def firing(self):
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"]
                if each["state"] == "firing"}


@pytest.fixture(scope="module")
def prometheus(shared, tmp_path_factory):
    started = Prometheus(shared, tmp_path_factory.mktemp("prometheus"))
    started.process.start()
    try:
        def answers():
            try:
                return http_get(started.address, "/-/ready")[0] == 200
            except OSError:
                return False
        wait_until(answers, 20, lambda: f"Prometheus is ready: {started.process.log_tail()}")
        yield started
    finally:
        started.process.stop()


@pytest.fixture(name="load")
def some_load(chain):
    """Reads, writes and scripts at every node while a test runs."""
    over = threading.Event()

    def run(node):
        with node.redis_client(single_connection_client=True) as client:
            while not over.wait(0.01):
                try:
                    client.set("load", node.id)
                    client.get("load")
                    client.eval("return redis.call('incr', KEYS[1])", 1, "runs")
                except redis.RedisError:
                    pass

    threads = [threading.Thread(target=run, args=(node,)) for node in chain.nodes]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


def test_each_panel_of_the_dashboard_has_data(chain, load, prometheus):
    del chain, load
    dashboard = json.loads((OBSERVABILITY / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 25

    def empty():
        found = []
        for panel in panels:
            for target in panel["targets"]:
                query = target["expr"].replace("$chain", ".*").replace("$__rate_interval", "10s")
                if not prometheus.values(query):
                    found.append((panel["title"], query))
        return found

    wait_until(lambda: not empty(), 30, lambda: f"data for {empty()}", interval=0.5)


def test_alerts_are_sound_and_fire(chain, prometheus):
    assert subprocess.run(["promtool", "check", "rules", str(OBSERVABILITY / "alerts.yml")],
                          capture_output=True, check=False).returncode == 0
    assert subprocess.run(["promtool", "check", "config", str(OBSERVABILITY / "prometheus.yml")],
                          capture_output=True, check=False).returncode == 0

    def rules():
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules()), 20,
               lambda: [(rule["name"], rule.get("lastError")) for rule in rules()])
    quiet = {"CatenaUnderReplicated", "CatenaNodeDown", "CatenaNeedsOperator", "CatenaNobodyLeads"}
    wait_until(lambda: not prometheus.firing() & quiet, 20, "no alert of a whole chain")
    victim = chain.middle()
    victim.proxy.kill()
    wait_until(lambda: {"CatenaUnderReplicated", "CatenaNodeDown"} <= prometheus.firing(), 20,
               lambda: f"alerts fire, besides {prometheus.firing()}")
    assert "CatenaNobodyLeads" not in prometheus.firing()
    victim.proxy.start()
    chain.wait_whole()
    wait_until(lambda: not prometheus.firing() & quiet, 20, "the alerts end")


# --- status page ---------------------------------------------------------------------------------

_ORDER = """[...document.querySelectorAll('[data-chain=main] .members .node')].map(
    node => [node.querySelector('.name').textContent, node.querySelector('.role').textContent])"""


def test_the_page_draws_the_chain_and_what_happens_to_it(chain, browser, tmp_path):
    pictures = Path(os.environ.get("CATENA_SCREENSHOTS") or tmp_path)
    leader = leader_of(chain)
    browser.go(f"http://{leader.admin}/")
    head, middle, tail = chain.wait_members()
    wait_until(lambda: browser.evaluate(_ORDER) == [
        [head.id, "head"], [middle.id, "middle"], [tail.id, "tail"]], 20, "three nodes in order")
    backs = set()
    for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
        browser.look(width, 900, dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        backs.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.screenshot(pictures / f"whole-{width}-{'dark' if dark else 'light'}.png")
    assert len(backs) == 2
    middle.proxy.kill()
    wait_until(lambda: browser.evaluate(_ORDER) == [[head.id, "head"], [tail.id, "tail"]], 20,
               "the page shows that a node was lost")
    wait_until(lambda: browser.evaluate(
        "document.querySelector('.others .node .role')?.textContent") == "gone", 5, "who it is")
    assert f"removed '{middle.id}'" in browser.evaluate("document.querySelector('li .why').textContent")
    browser.screenshot(pictures / "lost-390-dark.png")
    browser.look(1280, 900)
    browser.screenshot(pictures / "lost-1280-light.png")
    middle.proxy.start()
    chain.wait_whole()
    wait_until(lambda: len(browser.evaluate(_ORDER)) == 3, 10, "the page shows it again")


def test_another_coordinator_says_who_leads(chain, browser):
    leader = leader_of(chain)
    other = next(each for each in chain.coordinators if each is not leader)
    browser.go(f"http://{other.admin}/")
    wait_until(lambda: browser.evaluate("document.querySelector('main a')?.href") ==
               f"http://{leader.admin}/", 10, "a link to the leader")
    assert http_get(other.admin, "/readyz") == (200, f"ready; {leader.address} leads\n")
    assert Samples(other.admin).sum("catena_coordinator_leading") == 0


def test_the_page_may_run_its_own_script_only(chain):
    with urllib.request.urlopen(f"http://{leader_of(chain).admin}/", timeout=10) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


# --- catenactl top -------------------------------------------------------------------------------


def top(cluster, *arguments, **environment):
    return subprocess.run([str(binary_directory() / "catenactl"), "--config", str(cluster.config),
                           "top", *arguments], capture_output=True, text=True, timeout=30,
                          check=False, env={**os.environ, **environment})


def test_top_shows_the_chain_once(chain):
    head, middle, tail = chain.wait_members()
    done = top(chain, "--once", COLUMNS="300")
    record = chain.chain_status()["record"]
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows if row and row[0] in ("head", "middle", "tail")] == [
        ["head", head.id], ["middle", middle.id], ["tail", tail.id]]
    assert "3 of 3 members" in done.stdout
    assert f"epoch {record['configuration']['epoch']}  {record['reason']}" in done.stdout
    assert "\033" not in done.stdout
    for width in (50, 80):
        assert all(len(line) <= width
                   for line in top(chain, "--once", COLUMNS=str(width)).stdout.splitlines())


def test_top_in_a_terminal_is_drawn_until_interrupted(chain):
    argv = [str(binary_directory() / "catenactl"), "--config", str(chain.config), "top"]
    process, terminal = pty.fork()
    if process == 0:
        os.execv(argv[0], argv)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = b""
    middle = chain.middle()
    while shown.count(b"\033[H") < 2:
        shown += os.read(terminal, 4096)
    middle.proxy.kill()
    while b"removed '" + middle.id.encode() not in shown.rpartition(b"\033[H")[2]:
        shown += os.read(terminal, 4096)
    os.kill(process, signal.SIGINT)
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:
        pass  # how the end of a pseudo terminal reads
    assert os.waitpid(process, 0)[1] == 0
    os.close(terminal)
    assert shown.startswith(b"\033[?1049h") and shown.endswith(b"\033[?1049l")
    middle.proxy.start()
    chain.wait_whole()


def test_top_says_that_nobody_answers(tmp_path):
    cluster = Cluster(nodes=1, directory=tmp_path / "c")
    try:
        done = top(cluster, "--once")
    finally:
        cluster.stop()
    assert done.returncode == 1 and "no coordinator answers as the leader" in done.stderr
