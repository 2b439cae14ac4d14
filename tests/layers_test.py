#!/usr/bin/python3
"""A layer includes only lower ones (the folder map in README.md), and only the adapters touch the outside's libraries."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What the files of a folder may include besides their own folder; the longest prefix of a file's path counts.
ALLOWED = {
    "proxy/base": [],
    "proxy/resp": ["proxy/base"],
    "proxy/auth": ["proxy/base", "proxy/resp"],
    "proxy/command": ["proxy/base", "proxy/resp"],
    "proxy/chain": ["proxy/base"],
    "proxy/io": ["proxy/base"],
    "proxy/admin": ["proxy/base", "proxy/io"],
    "backends/backend.h": ["proxy/base", "proxy/resp"],
    "backends/redis": ["proxy/base", "proxy/resp", "proxy/io", "backends/backend.h"],
    "backends/rocksdb": ["proxy/base", "proxy/resp", "proxy/io", "proxy/command", "backends/backend.h"],
    "coordinator/records": ["proxy/base", "proxy/chain/configuration.h"],
    "coordinator/policy": ["proxy/base", "proxy/chain/configuration.h", "coordinator/records.h"],
    "coordinator": ["proxy/base", "proxy/resp", "proxy/auth", "proxy/io", "proxy/chain/configuration.h"],
    "proxy/tls_setup": ["proxy/base", "proxy/io", "config"],
    "coordinator/admin_port": ["proxy/base", "proxy/admin", "coordinator"],
    "coordinator/main": ["proxy/base", "proxy/io", "proxy/admin", "proxy/auth", "proxy/tls_setup", "config", "coordinator"],
    "config": ["proxy/base"],
    "proxy/peer": ["proxy/base", "proxy/resp", "proxy/auth", "proxy/io", "proxy/chain", "coordinator/records.h"],
    "proxy/server": ["proxy/base", "proxy/resp", "proxy/auth", "proxy/io", "proxy/chain", "proxy/command", "proxy/peer",
                     "backends/backend.h", "coordinator/records.h"],
    "proxy/cli": ["proxy/base", "proxy/resp", "proxy/auth", "proxy/io", "proxy/chain/configuration.h", "config",
                  "proxy/tls_setup", "coordinator/records.h"],
    "proxy/main": ["proxy/base", "proxy/io", "proxy/admin", "proxy/server", "proxy/tls_setup", "backends", "config"],
}
# Who may include the outside's libraries.
LIBRARIES = {"uv.h": "proxy/io/", "hiredis": "tests/", "curl/": "coordinator/etcd_client", "rocksdb/": "backends/rocksdb/",
             "toml++": "config/", "openssl/ssl": "proxy/io/tls_", "microhttpd": "proxy/admin/", "lzf": "backends/rocksdb/commands_dump"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def rule_of(path):
    matches = [prefix for prefix in ALLOWED if path.startswith(prefix)]
    return max(matches, key=len) if matches else None


def problems(path):
    rule = rule_of(path)
    if rule is None:
        yield f"{path}: belongs to no layer"
        return
    folder = str(Path(path).parent)
    for bracket, included in INCLUDE.findall((ROOT / path).read_text()):
        for library, owner in LIBRARIES.items():
            if included.startswith(library) and not path.startswith(owner):
                yield f"{path}: only {owner}* may include {included}"
        if bracket == "<":
            continue
        own = included.startswith(rule) or str(Path(included).parent) == folder
        if not own and not any(included.startswith(prefix) for prefix in ALLOWED[rule]):
            yield f"{path}: {rule} may not include {included}"


def main():
    sources = [str(p.relative_to(ROOT)) for top in ("proxy", "backends", "coordinator", "config")
               for p in (ROOT / top).rglob("*") if p.suffix in (".h", ".cc")]
    found = [problem for path in sorted(sources) for problem in problems(path)]
    print("\n".join(found) or f"{len(sources)} files keep the direction of dependencies")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
