"""Disks that take their time: fsync and fdatasync of the process that has the database (slow_fsync.c)."""

import subprocess
from pathlib import Path

_SOURCE = Path(__file__).resolve().parent / "slow_fsync.c"


def build_library(directory):
    library = directory / "slow_fsync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


class SlowDisk:
    """Of one node, which has not been started yet."""

    def __init__(self, node, library):
        self._file = node.cluster.directory / f"{node.id}.slow"
        process = node.redis or node.proxy
        process.argv = ["env", f"LD_PRELOAD={library}", f"SLOW_FSYNC_MS={self._file}",
                        *process.argv]

    def set(self, milliseconds):
        self._file.write_text(str(milliseconds), encoding="ascii")
