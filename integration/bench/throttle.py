"""Groups of processes with a share of the CPU, by the kernel's controller (cgroup v1 or v2; root).

Nodes of a chain held to a share of a core each are as slow as on small machines of their own, and they,
not this machine, are what limits a throughput. A benchmark that goes ahead of all other work is
disturbed less by it; nice does not do that where the kernel weighs sessions instead of processes.
"""

import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from processes import Failed, wait_until  # noqa: E402

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_NEEDED = ("the parts craq and killed, and --ahead, need root and a writable CPU controller (cgroup v1 "
           "or v2); name the parts to run without them")
_PERIOD_US = 20_000  # short, so that a pause at the quota's end is short beside a measurement


def _write(path, text):
    try:
        path.write_text(f"{text}\n", encoding="ascii")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}; {_NEEDED}") from error


class CpuGroup:
    """A group of processes, all their threads together, that gets the CPU ahead of others; with a
    quota (of cores) not more of it than that."""

    def __init__(self, name, quota=None):
        self._is_v1 = (_V1 / "cpu.cfs_quota_us").exists()
        self._root = _V1 if self._is_v1 else _V2
        if not self._is_v1:
            _write(_V2 / "cgroup.subtree_control", "+cpu")
        self._group = self._root / f"catena-bench-{os.getpid()}-{name}"
        try:
            self._group.mkdir()
        except OSError as error:
            raise Failed(f"{self._group}: {error.strerror}; {_NEEDED}") from error
        quota_us = int(quota * _PERIOD_US) if quota else None
        if self._is_v1:
            _write(self._group / "cpu.shares", 100 * 1024)  # 1024 is the usual
            if quota:
                _write(self._group / "cpu.cfs_period_us", _PERIOD_US)
                _write(self._group / "cpu.cfs_quota_us", quota_us)
        else:
            _write(self._group / "cpu.weight", 100 * 100)  # 100 is the usual
            _write(self._group / "cpu.max", f"{quota_us or 'max'} {_PERIOD_US}")

    def add(self, pid):
        _write(self._group / "cgroup.procs", pid)

    def close(self):
        """Gives the processes back to where all are; the group is gone."""
        for pid in (self._group / "cgroup.procs").read_text(encoding="ascii").split():
            try:
                (self._root / "cgroup.procs").write_text(pid, encoding="ascii")
            except ProcessLookupError:
                pass  # it has just ended

        def removed():
            try:
                self._group.rmdir()
            except OSError:
                return False
            return True

        wait_until(removed, 10, f"{self._group} is empty")


def check_quotas():
    """Failed, and why, where groups cannot be made."""
    CpuGroup("check", 0.5).close()


@contextmanager
def nodes_held_to(share, nodes):
    """Each node, its proxy and its Redis together, has `share` of a core within the block; a node
    whose process starts anew there is to be given to the function that this yields.

    Both run on one core: the kernel hands a small quota to one core at a time, and a process on
    another would wait for what is left over.
    """
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        groups = {}
        for number, node in enumerate(nodes):
            groups[node.id] = CpuGroup(node.id, share)
            stack.callback(_bind, node, cores)
            stack.callback(groups[node.id].close)

        def hold(node):
            for process in node.processes():
                groups[node.id].add(process.pid)
            _bind(node, [cores[nodes.index(node) % len(cores)]])

        for node in nodes:
            hold(node)
        yield hold


def _bind(node, cores):
    for process in node.processes():
        for thread in os.listdir(f"/proc/{process.pid}/task"):
            os.sched_setaffinity(int(thread), cores)


@contextmanager
def ahead_of_others():
    """This process and those that it starts within the block go ahead of all others."""
    group = CpuGroup("ahead")
    try:
        group.add(os.getpid())
        yield
    finally:
        group.close()
