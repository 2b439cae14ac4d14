#!/usr/bin/env python3
"""Starts a whole Catena cluster of real processes: etcd, coordinators, databases, proxies.

From the command line (see README.md):

    cluster.py up --nodes 3 --base-port 6380 --dir /tmp/trial

prints one line of JSON when the chain is whole, runs until SIGTERM, SIGINT or the end of its
standard input, and then takes everything down. As a library:

    with Cluster(nodes=3) as cluster:
        cluster.head().redis_client().set("k", "v")
        cluster.tail().proxy.kill()
        cluster.wait_whole(members=2)

Needs nothing but the standard library; redis_client() needs python3-redis.
"""

import argparse
import atexit
import json
import os
import random
import secrets
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import faults  # noqa: E402
from certificates import Authority  # noqa: E402
from kinds import BACKENDS, default_backend  # noqa: E402
from processes import Failed, Process, stop_all, wait_until  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
# Offsets from the base port; a cluster uses at most PORTS of them.
_PEERS, _BACKENDS, _COORDINATORS, _ETCD, _ETCD_PEERS, _ADMIN, PORTS = 20, 40, 60, 70, 80, 90, 120
NODES_MAX, COORDINATORS_MAX = 20, 10
# What may speak TLS.
TLS_PARTS = ("clients", "peers", "coordinators", "etcd", "backends")


def binary_directory():
    return Path(os.environ.get("CATENA_BIN") or ROOT / "build" / "release" / "bin")


def free_base_port():
    """A port from which on PORTS ports are free. CATENA_TEST_PORTS ("20000-29999") bounds it."""
    low, high = map(int, os.environ.get("CATENA_TEST_PORTS", "20000-31999").split("-"))
    bases = list(range(low, high - PORTS + 2, PORTS))
    random.shuffle(bases)
    for base in bases:
        if all(_is_free(base + i) for i in range(PORTS)):
            return base
    raise Failed(f"no {PORTS} free ports in a row within {low}-{high}")


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def _host_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def _toml_value(text):
    """"3" and "true" stay what they are; everything else becomes a string."""
    if text in ("true", "false") or text.lstrip("-").isdigit():
        return text
    if text.startswith(("[", "\"")):
        return text
    return json.dumps(text)


def http_get(address, path):
    """(status, body as text)."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _connect_to_local_data(connection):
    """redis_connect_func: reads show what the node's own database holds."""
    connection.on_connect()
    connection.send_command("READONLY")
    connection.read_response()


class Node:
    """One proxy and its database."""

    def __init__(self, cluster, node_id, clients, peers, admin, backend_url, backend):
        self.cluster = cluster
        self.id = node_id
        self.clients = clients          # host:port for Redis clients
        self.peers = peers              # host:port for proxies
        self.admin = admin              # host:port for HTTP; None without
        self.backend_url = backend_url  # as in the TOML
        self.backend = backend          # as reached from here: host:port, or a directory
        self.proxy = None               # Process
        self.redis = None               # Process; None with RocksDB

    def redis_client(self, **options):
        """A redis-py client of the proxy."""
        import redis  # pylint: disable=import-outside-toplevel
        host, port = _host_port(self.clients)
        options.setdefault("socket_timeout", 30)
        return redis.Redis(host=host, port=port, **{**self.cluster.tls_options("clients"),
                                                    **options})

    def direct_client(self, **options):
        """A redis-py client of this node's database alone: past the proxy, where it is a Redis."""
        import redis  # pylint: disable=import-outside-toplevel
        if self.cluster.backend == "rocksdb":
            return self.redis_client(redis_connect_func=_connect_to_local_data, **options)
        host, port = _host_port(self.backend)
        options.setdefault("socket_timeout", 30)
        options.setdefault("password", self.cluster.redis_password)
        return redis.Redis(host=host, port=port, **{**self.cluster.tls_options("backends"),
                                                    **options})

    def http(self, path):
        """(status, body) of the proxy's admin port."""
        return http_get(self.admin, path)

    def processes(self):
        return [p for p in (self.proxy, self.redis) if p is not None]

    def wipe(self):
        """The database loses everything. With RocksDB the proxy, which it is a part of, must be down."""
        if self.redis:
            self.redis.restart()
        else:
            shutil.rmtree(self.backend, ignore_errors=True)

    def position(self):
        """How far the database is; with RocksDB None while the proxy has more for it."""
        if self.redis:
            return self.direct_client().info("replication")["master_repl_offset"]
        told = self.redis_client().info("catena")
        applied = told["catena_applied"]
        return applied if applied == told["catena_received"] else None

    def __repr__(self):
        return f"<node {self.id}>"


class Cluster:
    """A cluster of one chain, "main", with nodes n1, n2, ... See up's options for the arguments.

    backend: a redis-server beside each proxy, or a RocksDB within it; default_backend() otherwise.

    settings: {"coordinator.lease": "2s", "chain.limits.backlog_bytes": "1mb",
    "node.n2.overwrite": "true"}. users: [(name, password)] or
    [(name, password, {"access": "read-only", "keys": ["a*"]})]. own_networks: each node in a
    network namespace, see faults.py; cut() and heal() work then. directory: kept afterwards if given.
    admin: with admin ports. A coordinator's is its .admin.
    tls: which of TLS_PARTS, with certificates of `authority`.
    """

    running = set()  # those not stopped yet, for whoever wants their logs

    def __init__(self, nodes=3, spares=0, coordinators=1, etcd=1, backend=None, base_port=None,
                 directory=None, redis_args=(), settings=None, binaries=None, own_networks=False,
                 users=(), redis_password=None, admin=True, tls=()):
        if not 1 <= nodes + spares <= NODES_MAX:
            raise Failed(f"{nodes + spares} nodes; allowed: 1 to {NODES_MAX}")
        if not 1 <= coordinators <= COORDINATORS_MAX or not 1 <= etcd <= COORDINATORS_MAX:
            raise Failed(f"coordinators and etcd: 1 to {COORDINATORS_MAX} of each")
        self.replicas = nodes
        self.backend = backend or default_backend()
        self.base_port = base_port or free_base_port()
        taken = [p for p in range(self.base_port, self.base_port + PORTS) if not _is_free(p)]
        if taken and not own_networks:
            raise Failed(f"in use: port {', '.join(map(str, taken))}; the cluster wants "
                         f"{self.base_port} to {self.base_port + PORTS - 1}, see --base-port")
        self.binaries = Path(binaries or binary_directory()).resolve()
        self.redis_password = redis_password
        self.admin = admin
        self.tls = frozenset(tls)
        if not self.tls <= set(TLS_PARTS):
            raise Failed(f"tls: {', '.join(self.tls)}; allowed: {', '.join(TLS_PARTS)}")
        self.authority = None
        self.nodes, self.coordinators, self.etcds = [], [], []
        self.network = None
        self._redis_args = list(redis_args)
        self._temporary = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix="catena-")).resolve()
        self.config = self.directory / "catena.toml"
        ids = [f"n{i + 1}" for i in range(nodes + spares)]
        if own_networks:
            self.network = faults.Network(ids)
            self.network.create()
        Cluster.running.add(self)
        atexit.register(self.stop)
        try:
            if self.tls:
                self.authority = Authority(self.directory / "tls")
                self.authority.issue("node")
            self._lay_out(ids, coordinators, etcd)
            self._write_files(dict(settings or {}), users)
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, failure, *_):
        if failure not in (None, SystemExit, KeyboardInterrupt):
            print(self.log_tails(), file=sys.stderr)
        self.stop()

    # --- life ---

    def start(self, timeout=60):
        """Starts everything and waits until the chain is whole and the spares are ready."""
        for process in self.processes():
            process.start()
        self.wait_whole(timeout=timeout, spares=True)

    def stop(self):
        """Ends every process. A directory that was not given is removed."""
        atexit.unregister(self.stop)
        Cluster.running.discard(self)
        # From the outside in, so that no proxy takes the end of the others for a failure to repair.
        stop_all([node.proxy for node in self.nodes if node.proxy], 5)
        stop_all(self.coordinators + self.etcds + [n.redis for n in self.nodes if n.redis], 5)
        if self.network:
            self.network.destroy()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self):
        return (self.etcds + [n.redis for n in self.nodes if n.redis] + self.coordinators +
                [n.proxy for n in self.nodes if n.proxy])

    def tls_options(self, part):
        """What redis-py needs to speak to that part."""
        if part not in self.tls:
            return {}
        certificate, key = self.authority.issue("node")
        return {"ssl": True, "ssl_ca_certs": str(self.authority.ca),
                "ssl_certfile": str(certificate), "ssl_keyfile": str(key)}

    def check_alive(self):
        """Failed, with its log, if a process ended that nobody told to."""
        for process in self.processes():
            if not process.expected_down and not process.running():
                raise Failed(f"{process.name} ended with code {process.exit_code()}:\n"
                             f"{process.log_tail()}")

    def log_tails(self, lines=25):
        """The ends of Catena's own logs, for a failure's report."""
        ours = self.coordinators + [node.proxy for node in self.nodes if node.proxy]
        return "\n".join(f"--- {p.name}: {p.log}\n{p.log_tail(lines)}" for p in ours)

    # --- looking ---

    def node(self, node_id):
        return next(node for node in self.nodes if node.id == node_id)

    def status(self, timeout=5):
        """What catenactl status --json says; None when no coordinator answers."""
        try:
            done = subprocess.run([str(self.binaries / "catenactl"), "--config", str(self.config),
                                   "status", "--json"], capture_output=True, text=True,
                                  timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return None
        return json.loads(done.stdout) if done.returncode == 0 else None

    def chain_status(self):
        status = self.status()
        chains = status["chains"] if status else []
        return next((chain for chain in chains if chain["chain"] == "main"), None)

    def members(self):
        """The nodes of the newest configuration, head first."""
        chain = self.chain_status()
        if not chain or not chain.get("record"):
            return []
        return [self.node(m["id"]) for m in chain["record"]["configuration"]["members"]]

    def head(self):
        return self.wait_members()[0]

    def tail(self):
        return self.wait_members()[-1]

    def middle(self):
        members = self.wait_members()
        return members[len(members) // 2]

    def at(self, position):
        return {"head": self.head, "middle": self.middle, "tail": self.tail}[position]()

    def wait_members(self, timeout=10):
        return wait_until(self.members, timeout, "a coordinator tells the members")

    # --- waiting ---

    def problem_with(self, members=None, spares=False, without=()):
        """Why the chain is not whole, as a text; None if it is."""
        chain = self.chain_status()
        if chain is None:
            return "no coordinator answers"
        if not chain.get("record"):
            return f"the chain has no configuration; {chain['waiting_for']}"
        configuration = chain["record"]["configuration"]
        listed = {m["id"]: m["incarnation"] for m in configuration["members"]}
        wanted = self.replicas if members is None else members
        if len(listed) != wanted:
            return f"members {list(listed)}, wanted {wanted}; {chain['waiting_for']}"
        for node_id in without:
            if node_id in listed:
                return f"{node_id} is a member still"
        for node in chain["nodes"]:
            problem = self._problem_with_node(node, listed, configuration["epoch"], spares)
            if problem:
                return problem
        return None

    @staticmethod
    def _problem_with_node(node, listed, epoch, spares):
        report = node["report"]
        name = f"{report['node']} ({report['phase']}, {report['problem'] or node['notice']})"
        if report["node"] not in listed:
            waits = spares and report["phase"] != "candidate"
            return f"spare {name} is not ready" if waits else None
        if report["phase"] != "member" or report["incarnation"] != listed[report["node"]]:
            return f"{name} does not act as a member yet"
        if report["epoch"] != epoch:
            return f"{name} is in epoch {report['epoch']}, the chain in {epoch}"
        if not report["synced"]:
            return f"{name} is not synced"
        if not report["backend"]["healthy"]:
            return f"{name}: {report['backend']['problem']}"
        return None

    def wait_whole(self, members=None, timeout=30, spares=False, without=()):
        """Waits until the chain has so many members (default: replicas), synced, in one epoch.

        without: ids that must not be among them.
        """
        last = "nothing known"

        def whole():
            nonlocal last
            self.check_alive()
            last = self.problem_with(members, spares, without)
            return last is None

        wait_until(whole, timeout, lambda: f"the chain is whole: {last}", interval=0.05)

    def wait_position(self, nodes=None, timeout=30):
        """Waits until the databases of the nodes (default: the members) are equally far."""
        chosen = nodes or self.wait_members()

        def equal():
            positions = {node.position() for node in chosen}
            return len(positions) == 1 and None not in positions

        wait_until(equal, timeout, f"equal positions of {chosen}")

    # --- faults ---

    def cut(self, node, relation):
        """relation: "peers", "coordinators", "clients" or "all" (the first two)."""
        self.network.cut(node.id, relation)

    def heal(self, node=None, relation=None):
        self.network.heal(node.id if node else None, relation)

    # --- layout ---

    def describe(self):
        """The line of JSON that `up` prints."""
        return {
            "config": str(self.config),
            "nodes": [{"id": n.id, "clients": n.clients, "peers": n.peers, "admin": n.admin,
                       "backend": n.backend, "proxy_pid": n.proxy.pid, "proxy_argv": n.proxy.argv,
                       "backend_pid": n.redis.pid if n.redis else None,
                       "backend_argv": n.redis.argv if n.redis else None} for n in self.nodes],
            "coordinators": [{"listen": c.address, "admin": c.admin, "pid": c.pid, "argv": c.argv}
                             for c in self.coordinators],
            "etcd": [{"client": e.address, "pid": e.pid, "argv": e.argv} for e in self.etcds],
        }

    def _lay_out(self, ids, coordinators, etcd):
        for directory in [self.directory, self.directory / "logs"]:
            directory.mkdir(parents=True, exist_ok=True)
        for number, node_id in enumerate(ids):
            self._add_node(number, node_id)
        host = self.network.outside("coordinators") if self.network else "127.0.0.1"
        self._add_etcds(etcd)
        for number in range(coordinators):
            address = f"{host}:{self.base_port + _COORDINATORS + number}"
            process = self._process(f"coordinator{number + 1}",
                                    [str(self.binaries / "catena-coordinator"), "--config",
                                     str(self.config), "--listen", address])
            process.address = address
            process.admin = f"{host}:{self.base_port + _ADMIN + NODES_MAX + number}"
            self.coordinators.append(process)

    def _add_node(self, number, node_id):
        hosts = {r: self.network.address(node_id, r) if self.network else "127.0.0.1"
                 for r in faults.RELATIONS}
        clients = f"{hosts['clients']}:{self.base_port + number}"
        peers = f"{hosts['peers']}:{self.base_port + _PEERS + number}"
        admin = f"{hosts['clients']}:{self.base_port + _ADMIN + number}" if self.admin else None
        port = self.base_port + _BACKENDS + number
        data = self.directory / node_id
        data.mkdir(exist_ok=True)
        prefix = self.network.command(node_id) if self.network else []
        if self.backend == "rocksdb":
            database = data / "rocksdb"
            node = Node(self, node_id, clients, peers, admin, f"rocksdb://{database}", str(database))
        else:
            user = f":{self.redis_password}@" if self.redis_password else ""
            scheme = "rediss" if "backends" in self.tls else "redis"
            node = Node(self, node_id, clients, peers, admin,
                        f"{scheme}://{user}127.0.0.1:{port}", f"{hosts['clients']}:{port}")
            node.redis = self._process(f"{node_id}-redis", prefix + self._redis_argv(
                port, data, ["127.0.0.1"] + ([hosts["clients"]] if self.network else [])))
        node.proxy = self._process(f"{node_id}-proxy",
                                   prefix + [str(self.binaries / "catena-proxy"), "--config",
                                             str(self.config), "--node", node_id])
        self.nodes.append(node)

    def _redis_argv(self, port, data, binds):
        ports = ["--port", str(port)]
        if "backends" in self.tls:
            certificate, key = self.authority.issue("node")
            ports = ["--port", "0", "--tls-port", str(port), "--tls-ca-cert-file",
                     str(self.authority.ca), "--tls-cert-file", str(certificate),
                     "--tls-key-file", str(key)]
        argv = ["redis-server", *ports, "--bind", *binds, "--save", "",
                "--appendonly", "no", "--dir", str(data)]
        if self.network:  # reached from outside of its namespace by tests
            argv += ["--protected-mode", "no"]
        if self.redis_password:
            argv += ["--requirepass", self.redis_password]
        return argv + self._redis_args

    def _add_etcds(self, count):
        names = [f"etcd{i + 1}" for i in range(count)]
        peers = {name: f"http://127.0.0.1:{self.base_port + _ETCD_PEERS + i}"
                 for i, name in enumerate(names)}
        everybody = ",".join(f"{name}={url}" for name, url in peers.items())
        scheme, secure = "http", []
        if "etcd" in self.tls:
            certificate, key = self.authority.issue("node")
            scheme, secure = "https", ["--cert-file", str(certificate), "--key-file", str(key),
                                       "--trusted-ca-file", str(self.authority.ca),
                                       "--client-cert-auth"]
        for number, name in enumerate(names):
            client = f"{scheme}://127.0.0.1:{self.base_port + _ETCD + number}"
            process = self._process(name, [
                "etcd", "--name", name, "--data-dir", str(self.directory / name),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peers[name], "--initial-advertise-peer-urls", peers[name],
                "--initial-cluster", everybody, "--initial-cluster-state", "new",
                "--logger", "zap", "--log-level", "warn", *secure])
            process.address = client
            self.etcds.append(process)

    def _process(self, name, argv):
        return Process(name, argv, self.directory / "logs" / f"{name}.log")

    def _write_files(self, settings, users):
        secret = self.directory / "secret"
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        text = self._toml(settings, users)
        if self.config.exists() and self.config.read_text(encoding="utf-8") != text:
            raise Failed(f"{self.directory} holds another cluster; use another directory, or "
                         "remove it")
        self.config.write_text(text, encoding="utf-8")

    def _tls_table(self):
        if not self.tls:
            return {}
        return {"tls": {"ca_file": "tls/ca.pem", "certificate_file": "tls/node.pem",
                        "key_file": "tls/node.key",
                        "clients": "on" if "clients" in self.tls else "off",
                        "peers": json.dumps("peers" in self.tls),
                        "coordinators": json.dumps("coordinators" in self.tls)}}

    def _toml(self, settings, users):
        tables = {
            "cluster": {"name": "catena", "secret_file": "secret"},
            "coordinator": {"listen": json.dumps([c.address for c in self.coordinators]),
                            "etcd": json.dumps([e.address for e in self.etcds])},
            **self._tls_table(),
            "chain": {"name": "main", "replicas": str(self.replicas)},
            "chain.limits": {},
        }
        if self.backend == "rocksdb":
            tables["chain.rocksdb"] = {}
        for node in self.nodes:
            tables[f"node.{node.id}"] = {"id": node.id, "clients": node.clients,
                                         "peers": node.peers, "backend": node.backend_url}
            if node.admin:
                tables[f"node.{node.id}"]["admin"] = node.admin
        if self.admin:
            tables["coordinator"]["admin"] = json.dumps([c.admin for c in self.coordinators])
        for path, value in settings.items():
            table, _, key = path.rpartition(".")
            if table not in tables:
                raise Failed(f"--set {path}: no table {table!r}; there are {', '.join(tables)}")
            tables[table][key] = value
        headers = {"chain": "[[chain]]"}
        headers.update({f"node.{node.id}": "[[chain.node]]" for node in self.nodes})
        lines = []
        for name, fields in tables.items():
            if name.startswith("node.") and users:
                for user, password, *rights in users:
                    told = {"name": user, "password": password, **(rights[0] if rights else {})}
                    lines += ["[[chain.user]]"]
                    lines += [f"{key} = {json.dumps(value)}" for key, value in told.items()] + [""]
                users = ()
            lines.append(headers.get(name, f"[{name}]"))
            lines += [f"{key} = {_toml_value(value)}" for key, value in fields.items()] + [""]
        return "\n".join(lines)


def _arguments():
    parser = argparse.ArgumentParser(
        description="Starts a Catena cluster of real processes for tests, benchmarks and trials.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser(
        "up", help="start a cluster, print one line of JSON when its chain is whole, and run until "
        "SIGTERM, SIGINT or the end of standard input; then take everything down")
    up.add_argument("--nodes", type=int, default=3, help="members of the chain (3)")
    up.add_argument("--spares", type=int, default=0, help="further nodes that stand by (0)")
    up.add_argument("--coordinators", type=int, default=1, help="catena-coordinator processes (1)")
    up.add_argument("--etcd", type=int, default=1, help="etcd servers (1)")
    up.add_argument("--backend", choices=BACKENDS,
                    help="the kind of database (CATENA_BACKEND, or redis)")
    up.add_argument("--base-port", type=int,
                    help="node i listens for clients on this port plus i - 1; the cluster uses the "
                    f"{PORTS} ports from here on (default: free ones)")
    up.add_argument("--dir", help="for data, logs and catena.toml; kept (default: a temporary one)")
    up.add_argument("--redis-args", default="", metavar="ARGS",
                    help='added to every redis-server, such as "--appendonly yes"')
    up.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                    help="a TOML value by its dotted path: coordinator.lease=2s, "
                    "chain.consistency=sequential, chain.limits.backlog_bytes=1mb, "
                    "node.n2.overwrite=true; repeatable")
    up.add_argument("--tls", default="", metavar="PART,...",
                    help=f"what speaks TLS, of {', '.join(TLS_PARTS)}, or all; certificates are made "
                    "in the directory's tls/")
    up.add_argument("--own-networks", action="store_true",
                    help="each node in a network namespace of its own (root; see faults.py)")
    up.add_argument("--bin",
                    help="directory of Catena's programs (CATENA_BIN, or build/release/bin)")
    up.add_argument("--timeout", type=float, default=60, help="seconds to become whole (60)")
    return parser.parse_args()


def settings_of(pairs):
    """{"table.key": value} of ["table.key=value"]."""
    settings = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or "." not in key:
            raise Failed(f"--set {pair}: wanted table.key=value")
        settings[key] = value
    return settings


def tls_parts(text):
    return TLS_PARTS if text == "all" else [part for part in text.split(",") if part]


def _run_until_told(cluster):
    """Until standard input ends; signals arrive as SystemExit."""
    while True:
        for process in cluster.processes():
            process.running()  # reaps it if somebody ended it
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            return


def main():
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        cluster = Cluster(
            nodes=arguments.nodes, spares=arguments.spares, coordinators=arguments.coordinators,
            etcd=arguments.etcd, backend=arguments.backend, base_port=arguments.base_port,
            directory=arguments.dir, redis_args=shlex.split(arguments.redis_args),
            settings=settings_of(arguments.set), binaries=arguments.bin,
            own_networks=arguments.own_networks, tls=tls_parts(arguments.tls))
        try:
            cluster.start(timeout=arguments.timeout)
            print(json.dumps(cluster.describe()), flush=True)
            _run_until_told(cluster)
        finally:
            # Told once is enough: a second signal must not cut the clean-up short.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            cluster.stop()
    except (Failed, faults.NetworkError, FileNotFoundError) as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
