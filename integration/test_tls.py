"""TLS on every port of one cluster, as programs of others speak it, and what is tried against it: all
refused, with the cluster undisturbed."""

import contextlib
import datetime
import itertools
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
import redis

from certificates import Authority
from cluster import TLS_PARTS, Cluster
from processes import wait_until

HALF_OPEN = 10_000
REDIS_PASSWORD = "not-to-be-read-anywhere"


@pytest.fixture(name="cluster", scope="module")
def started_cluster():
    with Cluster(nodes=3, tls=TLS_PARTS, redis_password=REDIS_PASSWORD) as started:
        yield started


@pytest.fixture(name="clients", scope="module")
def connected_clients(cluster):
    """One connection at each node, through everything that is tried beside it."""
    return [node.redis_client(single_connection_client=True) for node in cluster.nodes]


@pytest.fixture(name="undisturbed")
def the_cluster_undisturbed(cluster, clients):
    """Nobody left, every node serves and no connection was lost, whatever a test tries."""
    cluster.wait_whole()
    epoch = epoch_of(cluster)
    connections = [client.client_id() for client in clients]
    yield cluster
    assert epoch_of(cluster) == epoch
    for number, client in enumerate(clients):
        assert client.set("undisturbed", number)
        assert [other.get("undisturbed") for other in clients] == [b"%d" % number] * 3
    assert [client.client_id() for client in clients] == connections
    cluster.check_alive()


def epoch_of(cluster):
    return cluster.chain_status()["record"]["configuration"]["epoch"]


def secret_ports(cluster):
    """Ports for the cluster's own processes."""
    return [cluster.nodes[0].peers, cluster.coordinators[0].address]


def host_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def context(cluster, identity=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cluster.authority.ca)
    if identity:
        made.load_cert_chain(*identity)
    return made


def say(address, tls, words=b"PING\r\n"):
    """What a port answers to `words`; b"" if it ends the connection instead."""
    with contextlib.closing(socket.create_connection(host_port(address), timeout=10)) as plain:
        try:
            wrapped = tls.wrap_socket(plain, server_hostname="127.0.0.1")
            wrapped.sendall(words)
            return wrapped.recv(1000)
        except (ssl.SSLError, ConnectionError):
            return b""


def tls_files(cluster):
    certificate, key = cluster.authority.issue("node")
    return ["--cacert", str(cluster.authority.ca), "--cert", str(certificate), "--key", str(key)]


def catenactl(cluster, *words, config=None):
    return subprocess.run([str(cluster.binaries / "catenactl"), "--config",
                           str(config or cluster.config), *words], capture_output=True, text=True,
                          timeout=30, check=False)


def test_programs_of_others_speak_it(undisturbed):
    for node in undisturbed.nodes:
        host, port = host_port(node.clients)
        command = ["redis-cli", "-h", host, "-p", str(port), "--tls", "--cacert",
                   str(undisturbed.authority.ca)]
        for words, answer in ((["SET", "a", node.id], "OK"), (["GET", "a"], node.id)):
            done = subprocess.run(command + words, capture_output=True, text=True, timeout=20,
                                  check=True)
            assert done.stdout.strip() == answer
    certificate, key = undisturbed.authority.issue("node")
    for address in [undisturbed.nodes[1].clients, *secret_ports(undisturbed)]:
        for version in ("-tls1_2", "-tls1_3"):
            done = subprocess.run(
                ["openssl", "s_client", "-connect", address, "-CAfile",
                 str(undisturbed.authority.ca), "-cert", str(certificate), "-key", str(key),
                 "-verify_return_error", "-verify_ip", "127.0.0.1", version],
                input="", capture_output=True, text=True, timeout=20, check=True)
            assert "Verify return code: 0 (ok)" in done.stdout
            assert re.search(r"Protocol *: TLSv1\.[23]|New, TLSv1\.[23]", done.stdout)
    done = catenactl(undisturbed, "check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("\nok ") >= 8, done.stdout


def test_a_redis_replicates_over_it(undisturbed):
    head, *followers = undisturbed.wait_members()
    head.redis_client().set("replicated", "yes")
    undisturbed.wait_position()
    for node in followers:
        info = node.direct_client().info("replication")
        assert (info["role"], info["master_link_status"]) == ("slave", "up")
        assert node.direct_client().get("replicated") == b"yes"
        # Plain it would be a port that refuses TLS.
        port = int(info["master_port"])
        assert say(f"127.0.0.1:{port}", context(undisturbed)) == b""
        with pytest.raises(redis.ResponseError, match="not allowed"):
            node.redis_client().config_set("tls-replication", "no")


def test_strangers_are_refused_by_the_clusters_own_ports(undisturbed, tmp_path):
    foreign = Authority(tmp_path)
    expired = undisturbed.authority.issue("expired", days=(-9, -2))
    known = undisturbed.authority.issue("node")
    for address in secret_ports(undisturbed):
        assert say(address, context(undisturbed, known)).startswith(b"-NOAUTH")
        assert say(address, context(undisturbed)) == b""
        assert say(address, context(undisturbed, expired)) == b""
        assert say(address, context(undisturbed, foreign.issue("stranger"))) == b""
    for process, reasons in ((undisturbed.nodes[0].proxy, REFUSALS),
                             (undisturbed.coordinators[0], REFUSALS)):
        log = process.log.read_text()
        for reason in reasons:
            assert re.search(rf"event=tls_refused address=\S+ peer=127\S+ reason=\".*{reason}", log)


REFUSALS = ("peer did not return a certificate", "certificate has expired",
            "unable to get local issuer certificate")


def test_old_versions_are_refused(undisturbed):
    for address, version in itertools.product(
            [undisturbed.nodes[0].clients, *secret_ports(undisturbed)],
            (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)):
        old = context(undisturbed, undisturbed.authority.issue("node"))
        old.set_ciphers("ALL:@SECLEVEL=0")  # this side would do it
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = version
        assert say(address, old) == b""
    assert "reason=\"unsupported protocol\"" in undisturbed.nodes[0].proxy.log.read_text()


def test_the_secret_is_needed_besides(undisturbed):
    known = context(undisturbed, undisturbed.authority.issue("node"))
    for address in secret_ports(undisturbed):
        with contextlib.closing(known.wrap_socket(
                socket.create_connection(host_port(address), timeout=10),
                server_hostname="127.0.0.1")) as wire:
            wire.sendall(command("CATENA.AUTH", "1", "catena", "00" * 16))
            assert wire.recv(1000).startswith(b"*")
            wire.sendall(command("CATENA.PROVE", "00" * 32))
            assert wire.recv(1000).startswith(b"-WRONGSECRET")
            assert wire.recv(1000) == b""


def command(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode())
                                              for word in words)


def test_a_recorded_handshake_opens_nothing(undisturbed):
    """All that a client sent, sent once more: not one byte is answered but the server's own
    handshake and the alert that ends it."""
    address = undisturbed.nodes[0].clients
    recorded, answers = [], []
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    wrapped = context(undisturbed).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    steps = [wrapped.do_handshake, lambda: wrapped.write(command("SET", "replayed", "no")),
             lambda: answers.append(wrapped.read(1000))]
    with contextlib.closing(socket.create_connection(host_port(address), timeout=10)) as wire:
        while steps:
            with contextlib.suppress(ssl.SSLWantReadError):
                steps[0]()
                steps.pop(0)
                continue
            recorded.append(outgoing.read())
            wire.sendall(recorded[-1])
            incoming.write(wire.recv(100_000))
    assert answers == [b"+OK\r\n"]
    undisturbed.nodes[0].redis_client().delete("replayed")
    with contextlib.closing(socket.create_connection(host_port(address), timeout=10)) as wire:
        with contextlib.suppress(ConnectionError):
            for flight in recorded:
                wire.sendall(flight)
            while wire.recv(100_000):
                pass
    assert undisturbed.nodes[0].redis_client().get("replayed") is None


def test_plain_text_on_its_ports(undisturbed):
    for address in [undisturbed.nodes[0].clients, *secret_ports(undisturbed)]:
        with contextlib.closing(socket.create_connection(host_port(address), timeout=10)) as wire:
            wire.sendall(b"*1\r\n$4\r\nPING\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"PONG" not in wire.recv(1000) + wire.recv(1000)
    assert "the other side does not speak TLS" in undisturbed.nodes[0].proxy.log.read_text()


@pytest.mark.parametrize("hosts, plain, problem", [
    ("IP:10.9.9.9", False, "certificate verify failed: IP address mismatch"),
    ("IP:127.0.0.1", True, "the other side does not speak TLS")])
def test_who_is_dialled_must_be_who_was_meant(undisturbed, hosts, plain, problem):
    """catenactl against somebody who has a certificate by the CA, for another host; and without."""
    name = "plain" if plain else "impostor"
    impostor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    impostor.load_cert_chain(*undisturbed.authority.issue(name, hosts=hosts))
    heard = []

    def serve(listener):
        wire = listener.accept()[0]
        with contextlib.suppress(OSError):  # the other side ends it
            if plain:
                wire.sendall(b"-NOAUTH\r\n")
            else:
                wire = impostor.wrap_socket(wire, server_side=True)
            heard.append(wire.recv(1000))
        wire.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        config = undisturbed.directory / f"{name}.toml"
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        config.write_text(undisturbed.config.read_text().replace(
            undisturbed.coordinators[0].address, address))
        done = catenactl(undisturbed, "status", config=config)
        server.join()
    assert done.returncode != 0
    assert problem in done.stderr
    # It was told nothing in the clear, and nothing at all if it was not trusted.
    assert not any(b"CATENA" in bytes_heard for bytes_heard in heard)


def test_half_open_connections_disturb_nobody(undisturbed):
    """Half of them silent, half in the middle of their first message, on the ports for clients and for
    peers; clients go on through the same ports."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, room))
    count = min(HALF_OPEN, room - 2000)
    node = undisturbed.nodes[0]
    times, problems, stop = [], [], threading.Event()

    def witness():
        host, port = host_port(node.clients)
        program = ["redis-cli", "-h", host, "-p", str(port), "--tls", "--cacert",
                   str(undisturbed.authority.ca), "SET", "witness", "1"]
        while not stop.is_set():
            begun = time.monotonic()
            done = subprocess.run(program, capture_output=True, text=True, check=False)
            times.append(time.monotonic() - begun)
            if done.stdout != "OK\n":
                problems.append(done.stdout + done.stderr)

    others = [threading.Thread(target=witness) for _ in range(2)]
    for other in others:
        other.start()
    with contextlib.ExitStack() as opened:
        for number in range(count):
            address = node.peers if number % 4 == 3 else node.clients
            wire = opened.enter_context(socket.create_connection(host_port(address), timeout=10))
            if number % 2:
                wire.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        stop.set()
        for other in others:
            other.join()
        print(f"{count} half-open connections; {len(times)} runs of redis-cli beside them, the "
              f"slowest {1000 * max(times):.0f} ms")
        assert not problems
        assert max(times) < 5
        # Most are gone, to make room.
        assert len(list(open_files(node.proxy.pid))) < 2000


def open_files(pid):
    return (subprocess.run(["ls", f"/proc/{pid}/fd"], capture_output=True, text=True,
                           check=True).stdout.split())


def serial_seen(cluster, address):
    return serial_of_server(cluster, address, cluster.authority.issue("node"))


def serial_of_server(cluster, address, identity=None):
    tls = context(cluster, identity)
    with contextlib.closing(tls.wrap_socket(
            socket.create_connection(host_port(address), timeout=10),
            server_hostname="127.0.0.1")) as wire:
        return wire.getpeercert()["serialNumber"]


def hang_up(cluster, event):
    """SIGHUP to everybody, and each has told the event once more."""
    processes = cluster.coordinators + [node.proxy for node in cluster.nodes]
    before = [process.log.read_text().count(event) for process in processes]
    for process in processes:
        process.signal(signal.SIGHUP)
    for process, told in zip(processes, before):
        wait_until(lambda p=process, n=told: p.log.read_text().count(event) == n + 1, 20,
                   f"{process.name} tells {event}")


def test_certificates_are_renewed_without_a_connection_lost(undisturbed):
    ports = [undisturbed.nodes[0].clients, *secret_ports(undisturbed)]
    before = [serial_seen(undisturbed, port) for port in ports]
    certificate, _ = undisturbed.authority.issue("node", new=True)
    hang_up(undisturbed, "event=tls_reloaded")
    renewed = [serial_seen(undisturbed, port) for port in ports]
    assert not set(before) & set(renewed)

    # Unusable files: the renewed ones stay, and the log says which is unusable, and why.
    good = certificate.with_suffix(".good")
    shutil.copy(certificate, good)
    certificate.write_text("half of a certificate\n")
    try:
        hang_up(undisturbed, "event=tls_reload_failed")
        seen = [serial_of_server(undisturbed, port) for port in ports[:1]]
    finally:
        good.replace(certificate)
    assert seen == renewed[:1]
    assert re.search(rf"event=tls_reload_failed why=\"certificate_file {certificate}: not a "
                     "certificate in PEM form", undisturbed.nodes[0].proxy.log.read_text())
    assert [serial_seen(undisturbed, port) for port in ports] == renewed


def test_failover(cluster):
    cluster.wait_whole()
    head = cluster.head()
    head.redis_client().set("kept", "yes")
    head.proxy.kill()
    cluster.wait_whole(members=2, without=[head.id])
    for node in cluster.wait_members():
        assert node.redis_client().get("kept") == b"yes"
        assert node.redis_client().incr("counted") > 0
    head.proxy.start()
    cluster.wait_whole()
    assert head.redis_client().get("counted") == b"2"


def test_no_log_holds_a_secret(cluster):
    """After all that was tried: the cluster's secret, the databases' password, the key."""
    key = (cluster.directory / "tls" / "node.key").read_text().splitlines()[1]
    secrets = [(cluster.directory / "secret").read_text().strip(), REDIS_PASSWORD, key]
    for process in cluster.coordinators + [node.proxy for node in cluster.nodes]:
        log = process.log.read_text()
        assert "event=" in log
        assert not any(secret in log for secret in secrets)
    told = catenactl(cluster, "check")
    assert told.returncode == 0, told.stdout
    assert not any(secret in told.stdout + told.stderr for secret in secrets)


def test_a_file_that_cannot_be_used_is_told_before_a_start(cluster, tmp_path):
    expired = Authority(tmp_path).issue("node", days=(-9, -2))
    text = cluster.config.read_text()
    own = cluster.directory / "checked.toml"

    def check(program, *words, **changes):
        changed = text
        for key, value in changes.items():
            changed = re.sub(rf"^{key} = .*$", f'{key} = "{value}"', changed, count=1, flags=re.M)
        own.write_text(changed)
        return subprocess.run([str(cluster.binaries / program), "--config", str(own), "--check",
                               *words], capture_output=True, text=True, timeout=20, check=False)

    for program in ("catena-proxy", "catena-coordinator"):
        assert check(program).returncode == 0
        missing = check(program, key_file="none.key")
        assert missing.returncode != 0
        assert f"key_file {cluster.directory}/none.key: cannot read: No such file" in missing.stderr
        late = check(program, certificate_file=expired[0], key_file=expired[1])
        assert late.returncode != 0
        year = datetime.date.today().year
        assert re.search(rf"certificate_file {expired[0]}: expired on .* ({year}|{year - 1}) GMT",
                         late.stderr)
    open_to_all = check("catena-proxy", clients="off")
    assert open_to_all.stderr == ""  # on loopback
    own.write_text(re.sub(r'clients = "127\.0\.0\.1', 'clients = "10.0.0.1', text))
    told = subprocess.run([str(cluster.binaries / "catena-proxy"), "--config", str(own), "--check"],
                          capture_output=True, text=True, timeout=20, check=True)
    assert "open to whoever reaches it: no [[chain.user]] has a password" in told.stderr
    assert "not encrypted" not in told.stderr
