#!/usr/bin/env python3
"""Records what a real redis-server says, as data for the unit tests of proxy/command.

    redis-server --port 7777 --save '' --enable-debug-command no &
    tests/unit/data/record.py 7777 tests/unit/data

The server must be empty and nobody else may use it. Writes, with the server's version in each name:
  command-redis-V.resp   the reply to COMMAND, RESP2
  getkeys-redis-V.txt    one line a sample command: "command => keys", as COMMAND GETKEYS tells them
  effects-redis-V.resp   a replication stream
  effects-redis-V.txt    its entries, cut by the reader below: "end offset", then "every" or the
                         keys that COMMAND GETKEYS tells for the entry's commands, then their names
Arguments and keys are written percent-encoded.
"""
import socket
import sys
import time
import urllib.parse

SAMPLES = """
GET k
SET k v EX 10
DEL a b c
UNLINK a
EXISTS a a b
MGET a b c
MSET a 1 b 2 c 3
MSETNX a 1 b 2
RENAME a b
COPY a b DB 3
MOVE a 3
OBJECT ENCODING k
OBJECT FREQ k
MEMORY USAGE k SAMPLES 3
DUMP k
RESTORE k 0 payload
TOUCH a b
BITOP AND d a b
BITCOUNT k 0 1
BITFIELD k GET u8 0
BITFIELD_RO k GET u8 0
LCS a b
SORT l
SORT l LIMIT 0 5 DESC ALPHA
SORT l STORE d
SORT l GET # STORE d
SORT l BY nosort STORE d
SORT_RO l DESC
GEOADD g 1 1 m
GEORADIUS g 1 1 1 m
GEORADIUS g 1 1 1 m STORE d
GEORADIUS g 1 1 1 km COUNT 1 STOREDIST d
GEORADIUSBYMEMBER g m 1 km STORE d
GEORADIUSBYMEMBER_RO g m 1 km
GEOSEARCHSTORE d g FROMMEMBER m BYRADIUS 1 km
HSET h f v
HRANDFIELD h 2
LPUSH l a b
LMOVE a b LEFT RIGHT
BLMOVE a b LEFT RIGHT 0
RPOPLPUSH a b
BRPOPLPUSH a b 0
BLPOP a b c 0
BZPOPMIN a b 0
LMPOP 2 a b LEFT COUNT 10
BLMPOP 0 2 a b LEFT
ZMPOP 1 a MIN
BZMPOP 0 3 a b c MAX
SADD s a b
SMOVE a b m
SINTER a b
SINTERCARD 2 a b LIMIT 3
SINTERSTORE d a b
SDIFFSTORE d a b
SUNIONSTORE d a
ZADD z 1 a
ZUNION 2 a b WEIGHTS 1 2
ZINTER 1 a WITHSCORES
ZDIFF 2 a b
ZINTERCARD 2 a b LIMIT 3
ZUNIONSTORE d 3 a b c WEIGHTS 1 2 3
ZINTERSTORE d 1 a AGGREGATE MAX
ZDIFFSTORE d 2 a b
ZRANGESTORE d s 0 -1
PFADD p a
PFCOUNT a b
PFMERGE d a b
XADD x * f v
XREAD STREAMS a b 0 0
XREAD COUNT 2 BLOCK 10 STREAMS a 0
xread block 0 streams a b c 0 0 0
XREADGROUP GROUP g c STREAMS a b > >
XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a >
XGROUP CREATE x g $
XINFO STREAM x FULL
XCLAIM x g c 0 1-1
XAUTOCLAIM x g c 0 0
MIGRATE h 1 k 0 10
MIGRATE h 1 %20 0 10
MIGRATE h 1 k 0 10 COPY REPLACE AUTH auth2
MIGRATE h 1 %00EMPTY 0 10 KEYS a b c
MIGRATE h 1 %00EMPTY 0 10 AUTH2 keys pw KEYS a
EVAL return 2 a b x
EVAL return 0 x
EVALSHA 0000 1 a
EVAL_RO return 1 a
FCALL f 2 a b c
FCALL_RO f 0
WATCH a b
""".strip().splitlines()

# What is written while the stream is recorded, before the cases that need more than one line.
WRITES = """
SET k v
SET session v EX 1000
SET session v PX 1000000 GET
INCR n
INCRBYFLOAT f 0.5
MSET a 1 b 2 c 3
DEL a nosuchkey
UNLINK b c
EXPIRE k 1000
GETEX k PERSIST
GETEX k EX 50
APPEND k tail
SETRANGE k 1 x
SADD s 1 2 3 4 5 6
SPOP s
SPOP s 2
SPOP s 10
HSET h f v g w
HDEL h f g
RPUSH l c a b
SORT l ALPHA STORE sorted
SORT l BY w_* GET # STORE sorted
LMPOP 2 nosuch l LEFT COUNT 2
LMOVE l l2 LEFT RIGHT
ZADD z 1 a 2 b
ZADD y 3 c
ZUNIONSTORE zy 2 z y
ZDIFFSTORE zd 2 z y
ZMPOP 2 nosuch z MIN
ZPOPMAX zy
GEOADD g 13.3 38.1 palermo 15.0 37.5 catania
GEORADIUS g 15 37 200 km STORE near
GEOSEARCHSTORE near2 g FROMMEMBER catania BYRADIUS 300 km
PFADD p a b
PFADD q c
PFCOUNT p q
PFMERGE pq p q
SETBIT bits 7 1
BITOP NOT notbits bits
BITFIELD bits SET u8 0 255
XADD x * f v
XADD x * f w
XGROUP CREATE x grp 0
XREADGROUP GROUP grp me COUNT 1 STREAMS x >
XACK x grp 0-1
XTRIM x MAXLEN 1
PUBLISH news hello
SPUBLISH shard hello
RENAME k renamed
COPY renamed copied DB 3
MOVE renamed 5
SELECT 3
SET other db
EVAL return%20redis.call('set',KEYS[1],'v') 1 k1
EVAL redis.call('set','u1','v');return%20redis.call('incr','u2') 0
SELECT 0
SCRIPT LOAD return%201
SWAPDB 0 3
CONFIG SET maxmemory-policy noeviction
""".strip().splitlines()

TRANSACTIONS = """
MULTI
SET t1 v
INCR t2
GET t1
SPOP nosuch
SET t3 v EX 100
EXEC
MULTI
SET alone v
EXEC
MULTI
PUBLISH news inside
SELECT 7
SET seven v
EXEC
MULTI
GET t1
EXEC
SET brief v PX 1
""".strip().splitlines()


def Decode(word):
    return b"" if word == "%00EMPTY" else urllib.parse.unquote_to_bytes(word)


def Encode(word):
    return "%00EMPTY" if not word else urllib.parse.quote_from_bytes(word, safe="*$#>-@:{}")


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")
        self.seen = bytearray()

    def Send(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        bulks = [b"$%d\r\n%s\r\n" % (len(w), w) for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(bulks))

    def Take(self, count=None):
        taken = self.file.readline() if count is None else self.file.read(count)
        self.seen += taken
        return taken

    def Reply(self):
        line = self.Take()[:-2]
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self.Take(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.Reply() for _ in range(int(rest))]
        if kind == b"-":
            return RuntimeError(rest.decode())
        return int(rest) if kind == b":" else rest

    def Ask(self, *words):
        self.Send(*words)
        return self.Reply()

    def Do(self, line):
        """One command that must succeed, of words without spaces."""
        reply = self.Ask(*[Decode(word) for word in line.split()])
        if isinstance(reply, RuntimeError):
            raise RuntimeError(f"{line}: {reply}")
        return reply


def Keys(client, words):
    reply = client.Ask("COMMAND", "GETKEYS", *words)
    if isinstance(reply, RuntimeError):
        if "no key arguments" not in str(reply):
            raise RuntimeError(f"{words}: {reply}")
        return []
    return reply


def RecordCommand(port, path):
    client = Client(port)
    client.Ask("COMMAND")
    with open(path, "wb") as file:
        file.write(client.seen)


def RecordGetkeys(port, path):
    client = Client(port)
    with open(path, "w") as file:
        for line in SAMPLES:
            keys = Keys(client, [Decode(word) for word in line.split()])
            file.write(f"{line} => {' '.join(map(Encode, keys))}".rstrip() + "\n")


def Provoke(port):
    """Makes a server write every kind of entry."""
    a, b = Client(port), Client(port)
    for line in WRITES:
        a.Do(line)
    a.Ask("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('fn', function(keys) "
          "redis.call('set', keys[1], 'x') return redis.call('spop', 'fs') end)")
    a.Do("SADD fs one")
    a.Do("FCALL fn 1 fk")
    a.Do("FUNCTION DELETE lib")
    for line in TRANSACTIONS:
        a.Do(line)
    while a.Do("EXISTS brief"):
        time.sleep(0.001)
    a.Do("SELECT 0")
    b.Send("BLPOP", "queue", "0")
    while b"blocked_clients:1" not in a.Ask("INFO", "clients"):
        time.sleep(0.001)
    a.Do("RPUSH queue job")
    b.Reply()
    a.Ask("SET", b"binary \r\n\x00\xff key", b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\ny\r\n")
    a.Ask("SET", "", "empty name")
    a.Ask("SET", "large", b"0123456789abcdef" * 1200)
    a.Ask("RESTORE", "restored", "0", a.Ask("DUMP", "large"))
    a.Do("WAIT 1 1")
    a.Do("FLUSHDB")
    a.Do("FLUSHALL ASYNC")
    a.Do("SET last v")


def RecordEffects(port):
    """Attaches as a replica and returns the bytes of the stream behind the snapshot."""
    control = Client(port)
    control.Do("CONFIG SET repl-diskless-sync-delay 0")
    control.Do("CONFIG SET repl-ping-replica-period 1")
    replica = Client(port)
    replica.Ask("REPLCONF", "listening-port", "1", "capa", "psync2")
    replica.Send("PSYNC", "?", "-1")
    while not (line := replica.Take()).startswith(b"$"):
        pass
    replica.Take(int(line[1:]))
    replica.seen.clear()
    replica.Send("REPLCONF", "ACK", "0")
    Provoke(port)
    # A ping behind the last command: then everything has been seen.
    flushed = False
    while True:
        name = replica.Reply()[0].upper()
        flushed = flushed or name == b"FLUSHALL"
        if flushed and name == b"PING":
            return bytes(replica.seen)


def Entries(stream):
    """(end offset, commands) of each entry."""
    at, commands, inside = 0, [], False
    while at < len(stream):
        end = stream.index(b"\r\n", at)
        count, at, words = int(stream[at + 1:end]), end + 2, []
        for _ in range(count):
            end = stream.index(b"\r\n", at)
            length = int(stream[at + 1:end])
            words.append(stream[end + 2:end + 2 + length])
            at = end + 4 + length
        name = words[0].upper()
        inside = name == b"MULTI" or (inside and name != b"EXEC")
        commands.append(words)
        if not inside:
            yield at, commands
            commands = []


WITHOUT_KEYS = (b"MULTI", b"EXEC", b"PING", b"SELECT", b"PUBLISH", b"SPUBLISH", b"REPLCONF")


def Touched(client, commands):
    keys = []
    for words in commands:
        name = words[0].upper()
        if name in (b"FLUSHALL", b"FLUSHDB", b"SWAPDB", b"FUNCTION", b"SCRIPT"):
            return None
        if name == b"SORT" and any(b"*" in word for word in words[2:]):
            return None
        if name not in WITHOUT_KEYS:
            keys += Keys(client, words)
    return keys


def DescribeEffects(port, stream, path):
    client = Client(port)
    with open(path, "w") as file:
        for end, commands in Entries(stream):
            keys = Touched(client, commands)
            touched = "every" if keys is None else ",".join(map(Encode, keys)) or "-"
            names = " ".join(words[0].decode() for words in commands)
            file.write(f"{end} {touched} {names}\n")


def main():
    port, directory = int(sys.argv[1]), sys.argv[2]
    info = Client(port).Ask("INFO", "server").decode()
    version = "redis-" + info.split("redis_version:")[1].split("\r\n")[0]
    RecordCommand(port, f"{directory}/command-{version}.resp")
    RecordGetkeys(port, f"{directory}/getkeys-{version}.txt")
    stream = RecordEffects(port)
    with open(f"{directory}/effects-{version}.resp", "wb") as file:
        file.write(stream)
    DescribeEffects(port, stream, f"{directory}/effects-{version}.txt")


if __name__ == "__main__":
    main()
