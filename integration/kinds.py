"""Kinds of databases: which one the tests are run with, and what is not for all of them."""

import os

from processes import Failed

BACKENDS = ("redis", "rocksdb")
# Words of the tests' scripts that name what a RocksDB has not: other types, other databases,
# scripts, sharded channels.
_REDIS_WORDS = {"SELECT", "EVAL", "EVAL_RO", "LPUSH", "RPUSH", "RPOP", "LPOP", "LRANGE", "HSET", "HGET",
                "HGETALL", "ZADD", "ZRANGE", "SADD", "SCARD", "SISMEMBER", "BLPOP", "XGROUP", "OBJECT",
                "CONFIG", "COMMAND", "SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH", "MONITOR"}


def default_backend():
    """$CATENA_BACKEND, or redis."""
    kind = os.environ.get("CATENA_BACKEND") or "redis"
    if kind not in BACKENDS:
        raise Failed(f"CATENA_BACKEND={kind}; allowed: {', '.join(BACKENDS)}")
    return kind


def on_rocksdb():
    return default_backend() == "rocksdb"


def runs_here(*words):
    """Whether a command or a script can be run with the tests' kind of database."""
    return not on_rocksdb() or not _REDIS_WORDS & {str(word).upper() for word in words}
