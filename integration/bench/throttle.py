"""Holds groups of processes to a share of a core with the kernel's CPU controller (cgroup v1 or v2;
root). Each node of a chain then is as slow as on a small machine of its own, and the nodes, not this
machine, are what limits a throughput."""

import os
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from processes import Failed, wait_until  # noqa: E402

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_NEEDED = ("quotas for the nodes need root and a writable CPU controller (cgroup v1 or v2); name the "
           "parts to run without craq and craq_killed")
_PERIOD_US = 20_000  # short, so that a pause at the quota's end is short beside a measurement


def _write(path, text):
    try:
        path.write_text(f"{text}\n", encoding="ascii")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}; {_NEEDED}") from error


class CpuQuota:
    """A group of processes, all their threads together, with `share` of a core."""

    def __init__(self, name, share):
        self._is_v1 = (_V1 / "cpu.cfs_quota_us").exists()
        self._root = _V1 if self._is_v1 else _V2
        if not self._is_v1:
            _write(_V2 / "cgroup.subtree_control", "+cpu")
        self._group = self._root / f"catena-bench-{os.getpid()}-{name}"
        try:
            self._group.mkdir()
        except OSError as error:
            raise Failed(f"{self._group}: {error.strerror}; {_NEEDED}") from error
        quota = int(share * _PERIOD_US)
        if self._is_v1:
            _write(self._group / "cpu.cfs_period_us", _PERIOD_US)
            _write(self._group / "cpu.cfs_quota_us", quota)
        else:
            _write(self._group / "cpu.max", f"{quota} {_PERIOD_US}")

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
    CpuQuota("check", 0.5).close()


@contextmanager
def nodes_held_to(share, nodes):
    """Each node, its proxy and its Redis together, has `share` of a core within the block."""
    with ExitStack() as stack:
        for node in nodes:
            quota = CpuQuota(node.id, share)
            stack.callback(quota.close)
            for process in node.processes():
                quota.add(process.pid)
        yield
