"""The Debian package: made, looked into, installed into a copy of this system and run from there.

The copy is an overlay of / in a mount namespace: dpkg and the maintainer scripts are real, and nothing
of it is left.
"""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from cluster import ROOT, binary_directory, free_base_port

BUILD = binary_directory().resolve().parent
FILES = ["./usr/bin/catena-proxy", "./usr/bin/catena-coordinator", "./usr/bin/catenactl",
         "./usr/lib/systemd/system/catena-proxy@.service", "./etc/catena/catena.toml",
         "./usr/lib/systemd/system/catena-coordinator.service", "./usr/lib/sysusers.d/catena.conf",
         "./etc/default/catena-coordinator", "./usr/share/man/man8/catena-proxy.8",
         "./usr/share/man/man8/catena-coordinator.8", "./usr/share/man/man8/catenactl.8",
         "./usr/share/bash-completion/completions/catenactl",
         "./usr/share/doc/catena/README.md", "./usr/share/doc/catena/examples/example.toml"]
# What is run as root in the copy; $1: the package, $2: a port to begin with.
IN_THE_COPY = r"""
set -eu
dpkg --install "$1" >/dev/null
id catena
stat -c '%a %U:%G %n' /etc/catena /etc/catena/catena.toml
head -c 32 /dev/urandom | base64 > /etc/catena/secret
for program in catena-proxy catena-coordinator catenactl; do
  $program --version
  man --warnings -E UTF-8 -l -Tutf8 -Z /usr/share/man/man8/$program.8 >/dev/null
done
catena-proxy --config /etc/catena/catena.toml --node a --check
for unit in catena-proxy@a.service catena-coordinator.service; do
  systemd-analyze verify /lib/systemd/system/$(echo $unit | sed s/@a/@/)
  systemd-analyze security --offline=yes --threshold=20 --no-pager $unit | tail -1
done
/usr/bin/python3 - "$2" <<'PYTHON'
import sys
from cluster import Cluster
with Cluster(nodes=2, binaries="/usr/bin", base_port=int(sys.argv[1])) as cluster:
    cluster.head().redis_client().set("k", "installed")
    print(cluster.tail().redis_client().get("k").decode())
PYTHON
bash -c '. /usr/share/bash-completion/completions/catenactl; complete -p catenactl'
echo "# mine" >> /etc/catena/catena.toml
dpkg --install "$1" >/dev/null
tail -1 /etc/catena/catena.toml
catenactl --help | sed -n 's/^  \([a-z-]*\)  *[a-z].*/command \1/p' | sed '/--/d'
man -E ascii -l /usr/share/man/man8/catenactl.8 | sed -n 's/^       \([a-z-]*\)\( .*\)\{0,1\}$/page \1/p'
dpkg --remove catena >/dev/null
ls /usr/bin/catena-proxy 2>/dev/null || echo removed
ls /etc/catena/catena.toml
dpkg --purge catena >/dev/null 2>&1
ls /etc/catena/catena.toml 2>/dev/null || echo purged
"""
COPY = r"""
set -eu
mount -t tmpfs copy "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay copy -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t tmpfs tmp "$1/root/tmp"
for directory in /proc /sys /dev "$2" "$3"; do
  mkdir -p "$1/root$directory"
  mount --rbind "$directory" "$1/root$directory"
done
cp "$4" "$1/root/tmp/catena.deb"
exec chroot "$1/root" env PYTHONPATH="$2/integration" bash -c "$5" bash /tmp/catena.deb "$6"
"""


@pytest.fixture(name="package", scope="module")
def fixture_package(tmp_path_factory):
    directory = tmp_path_factory.mktemp("package")
    run("cpack", "--config", str(BUILD / "CPackConfig.cmake"), "-B", str(directory))
    made, = directory.glob("*.deb")
    return made


def run(*argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def version():
    return re.search(r"project\(catena VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


def test_what_the_package_says_and_holds(package):
    assert package.name == f"catena_{version()}_{run('dpkg', '--print-architecture').strip()}.deb"
    fields = run("dpkg-deb", "--field", str(package))
    assert f"Version: {version()}" in fields
    for library in ("libuv1", "libcurl4", "libssl3", "systemd"):
        assert library in fields
    listed = {line.split()[5]: line for line in run("dpkg-deb", "-c", str(package)).splitlines()}
    assert [path for path in FILES if path not in listed] == []
    assert all(" root/root " in line for line in listed.values())
    assert not [path for path in listed if "next" in path or "test" in path]
    assert "/etc/catena/catena.toml" in run("dpkg-deb", "--info", str(package), "conffiles")


def may_mount(directory):
    """Root, in a container that may mount an overlay."""
    trial = COPY.split("for directory")[0] + "true"
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", trial, "bash",
         str(directory)], capture_output=True, check=False).returncode == 0


def test_installed_and_run(package, tmp_path):
    if not may_mount(tmp_path):
        pytest.skip("no right to mount a copy of the system")
    told = run("unshare", "--mount", "--propagation", "private", "bash", "-c", COPY, "bash",
               str(tmp_path), str(ROOT), str(BUILD), str(package), IN_THE_COPY,
               str(free_base_port()))
    for line in ("750 root:catena /etc/catena", "640 root:catena /etc/catena/catena.toml",
                 f"catena-proxy {version()}", f"catena-coordinator {version()}",
                 f"catenactl {version()}", "/etc/catena/catena.toml: ok", "installed", "# mine",
                 "removed", "/etc/catena/catena.toml", "purged"):
        assert line in told.splitlines(), told
    assert "(catena)" in told
    commands = re.findall(r"^command (\S+)", told, re.M)
    assert "status" in commands and set(commands) <= set(re.findall(r"^page (\S+)", told, re.M)), told
    exposures = [float(number) for number in re.findall(r"exposure level .*: (\d+\.\d)", told)]
    assert len(exposures) == 2 and max(exposures) <= 2.0, told


@pytest.mark.parametrize("program, flags", [("catena-proxy", ["--node", "a"]),
                                            ("catena-coordinator", [])])
def test_the_service_manager_is_told(program, flags, tmp_path):
    """READY when it listens and would take SIGHUP, STOPPING at SIGTERM; also by an abstract name."""
    base = free_base_port()
    text = (ROOT / "config" / "three-nodes.toml").read_text()
    for number, port in enumerate(sorted(set(re.findall(r":(\d{4})\"", text)))):
        text = text.replace(f":{port}\"", f":{base + number}\"")
    (tmp_path / "catena.toml").write_text(text)
    (tmp_path / "secret").write_text("a secret for a trial")
    name = f"@catena-{os.getpid()}-{base}" if program == "catena-proxy" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(10)
        manager.bind(name.replace("@", "\0"))
        process = subprocess.Popen([binary_directory() / program, "--config",
                                    tmp_path / "catena.toml", *flags], stderr=subprocess.DEVNULL,
                                   env={**os.environ, "NOTIFY_SOCKET": name})
        try:
            assert manager.recv(100) == b"READY=1"
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(15) == 0
        finally:
            process.kill()
            process.wait()
