"""Compares the data of databases key by key."""

_BATCH = 500


def snapshot(client):
    """{(db, key): (DUMP, PEXPIRETIME)} of everything that a server holds."""
    data = {}
    # A RocksDB only estimates what it holds.
    for name in {"db0", *client.info("keyspace")}:
        database = int(name[2:])
        connection = _in_database(client, database)
        keys = list(connection.scan_iter(count=_BATCH))
        for start in range(0, len(keys), _BATCH):
            part = keys[start:start + _BATCH]
            pipeline = connection.pipeline(transaction=False)
            for key in part:
                pipeline.dump(key)
                pipeline.execute_command("PEXPIRETIME", key)
            answers = pipeline.execute()
            for i, key in enumerate(part):
                if answers[2 * i] is not None:  # expired since the scan
                    data[(database, key)] = (answers[2 * i], answers[2 * i + 1])
        connection.close()
    return data


def differences(clients, limit=10):
    """What is not the same at all of the servers, as texts; empty when their data is equal."""
    first, *others = [(client, snapshot(client)) for client in clients]
    found = []
    for other in others:
        for place in sorted(set(first[1]) | set(other[1]), key=repr):
            mine, theirs = first[1].get(place), other[1].get(place)
            if mine == theirs:
                continue
            if mine and theirs and mine[1] == theirs[1] and _content(first[0], place) == _content(
                    other[0], place):
                continue
            found.append(f"db {place[0]} key {place[1]!r}: {_short(mine)} and {_short(theirs)}")
            if len(found) == limit:
                return found
    return found


def _in_database(client, database):
    options = dict(client.connection_pool.connection_kwargs, db=database)
    return type(client)(**options)


def _content(client, place):
    """What a key means, whatever its encoding.

    A hash table is dumped in the order of a hash that every server seeds at random, and a small
    collection that had once been large is a small one again after a snapshot was loaded.
    """
    database, key = place
    connection = _in_database(client, database)
    try:
        kind = connection.type(key)
        readers = {
            b"set": lambda: sorted(connection.smembers(key)),
            b"hash": lambda: sorted(connection.hgetall(key).items()),
            b"zset": lambda: connection.zrange(key, 0, -1, withscores=True),
            b"list": lambda: connection.lrange(key, 0, -1),
            b"string": lambda: connection.get(key),
        }
        # Anything else has to be equal byte for byte.
        return kind, readers[kind]() if kind in readers else connection.dump(key)
    finally:
        connection.close()


def _short(value):
    if value is None:
        return "missing"
    dump, expires = value
    return f"{len(dump)} bytes {dump[:12].hex()}..., expires {expires}"
