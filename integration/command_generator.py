"""Random Redis commands that make sense, most of them, made from what a server says about its own commands.

COMMAND DOCS tells the grammar of each command; this file adds what the words in it stand for (what a
score, a field or a stream's id looks like) and a few commands whose grammar is not written there. Nothing is drawn
from anything but the given random.Random, so a seed is a sequence.
"""

import hashlib

# Keys of each group, few enough to meet again. A key of another group is taken now and then.
_PREFIXES = {"string": "s", "list": "l", "hash": "h", "set": "e", "sorted-set": "z", "stream": "x",
             "geo": "g", "hyperloglog": "p", "bitmap": "b"}
KEYS_EACH = 8
_WORDS = ["a", "b", "c", "one", "two", "three", "7", "12", "-3", "3.5", "", "long " * 12, "\x00\r\n\xff", "field:1",
          "M", "x" * 70, "0", "100"]
# What takes the place of a right word; no small positive number, which would be a time to live or to block.
_WRONG_WORDS = ["a", "", "-3", "3.5", "one", "\x00\r\n\xff", "x" * 70]
_SCORES = ["1", "2", "3", "-5", "2.5", "1e3", "0", "inf", "-inf", "17", "100.25", "(2", "nan", "x"]
_FAR_SECONDS, _PAST_SECONDS = 4102444800, 1000000000  # 2100, 2001

SCRIPTS = [
    "return redis.call('set', KEYS[1], ARGV[1])",
    "return redis.call('get', KEYS[1])",
    "return {1, 2, {3, 'four', false}, KEYS[1], ARGV[1]}",
    "return redis.pcall('incr', KEYS[1])",
    "return redis.call('lpush', KEYS[1], ARGV[1])",
    "redis.call('rpush', KEYS[1], 1, 2, 3); redis.call('del', KEYS[2] or KEYS[1]); return redis.status_reply('DONE')",
    "return redis.error_reply('MY own error')",
    "error('thrown')",
    "return redis.call('nosuch')",
    "for i = 1, 20 do redis.call('hset', KEYS[1], 'f' .. i, i) end return redis.call('hlen', KEYS[1])",
    "redis.setresp(3); return redis.call('zscore', KEYS[1], 'a')",
    "return cjson.encode({KEYS[1], 1, true})",
    "redis.call('select', 1); return redis.call('set', 'fromscript', '1')",
    "return redis.call('exists', unpack(KEYS))",
    "#!lua flags=no-writes\nreturn redis.call('get', KEYS[1])",
    "#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 'x')",
    "return tostring(ARGV[1]) .. #KEYS",
    "syntax error(",
    "",
]
LIBRARIES = [
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return redis.call('incr', 's:' .. #keys) end)\n"
    "redis.register_function{function_name='r1', callback=function(keys, args) return #keys + #args end, "
    "flags={'no-writes'}}",
    "#!lua name=lib2\nredis.register_function('f2', function(keys, args) return redis.call('sadd', keys[1], "
    "unpack(args)) end)",
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return 'changed' end)",
    "#!lua name=broken\nnonsense(",
    "no shebang",
]
_FUNCTIONS = ["f1", "r1", "f2", "nosuch"]
_SHAS = [hashlib.sha1(s.encode()).hexdigest() for s in SCRIPTS[:10]] + ["0" * 40, "bad"]

# Never at random: they end or reconfigure the server, block it, take its clients, or need a sequence of their own.
EXCLUDED = set("""
    shutdown debug failover replicaof slaveof psync sync replconf bgsave save bgrewriteaof migrate monitor quit reset
    module cluster acl client hello auth config|set config|rewrite config|resetstat subscribe psubscribe ssubscribe
    unsubscribe punsubscribe sunsubscribe exec multi discard watch unwatch wait role script|debug script|kill
    function|kill function|restore pfselftest pfdebug lolwut asking readonly readwrite select swapdb flushall flushdb
    function|flush script|flush slowlog|reset latency|reset restore restore-asking info spop xread xreadgroup sort
    sort_ro randomkey lastsave memory|purge memory|malloc-stats memory|doctor latency|doctor latency|graph
    function|stats keys command|docs command|info command|list""".split())
_RARE = {"blpop", "brpop", "blmove", "brpoplpush", "blmpop", "bzpopmin", "bzpopmax", "bzmpop"}


def _pairs(flat):
    return dict(zip(flat[::2], flat[1::2])) if isinstance(flat, list) else flat


def _text(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_text(v) for v in value]
    return {_text(k): _text(v) for k, v in value.items()} if isinstance(value, dict) else value


class Command:
    """One command or subcommand: its words, group and grammar."""

    def __init__(self, name, docs):
        self.name = name
        self.words = name.split("|")
        self.group = docs.get("group", "")
        self.arguments = [self._argument(a) for a in docs.get("arguments", [])]
        self.deprecated_syntax = False

    def _argument(self, flat):
        fields = _pairs(flat)
        fields["flags"] = set(fields.get("flags", []))
        fields["arguments"] = [self._argument(a) for a in fields.get("arguments", [])]
        return fields


def commands_of(client):
    """Every Command of a server, from COMMAND DOCS (containers by their subcommands)."""
    found = []

    def add(documents):
        for name, docs in _pairs(documents).items():
            docs = _pairs(docs)
            if docs.get("subcommands"):
                add(docs["subcommands"])
            else:
                found.append(Command(name, docs))

    add(_text(client.execute_command("COMMAND DOCS")))
    return sorted(found, key=lambda command: command.name)


class Generator:
    """An endless source of commands (lists of bytes) for connections that share one data set."""

    def __init__(self, commands, chooser, wrong=0.06):
        self.random = chooser
        self.commands = [c for c in commands if c.name not in EXCLUDED and c.words[0] not in EXCLUDED]
        self._weights = [self._weight(c) for c in self.commands]
        self._wrong = wrong
        self._stream_id = 0
        self._special = [self._select, self._xread, self._xreadgroup, self._sort, self._spop, self._script_flush,
                         self._restore, self._hello_like, self._sometimes_flush, self._keys, self._random_reads, self._lexical]
        self.payloads = []  # of DUMP, for RESTORE; filled by the user

    @staticmethod
    def _weight(command):
        if command.name in _RARE:
            return 0.05
        if command.group in ("server", "connection", "pubsub"):
            return 0.1
        if command.words[0] in ("function", "script"):
            return 0.4
        return 3.0 if command.name in ("set", "del", "hset", "sadd", "zadd", "rpush", "xadd", "incr") else 1.0

    def next(self):
        """A command; sometimes deliberately wrong."""
        if self.random.random() < 0.08:
            words = self.random.choice(self._special)()
        else:
            words = self.of(self.random.choices(self.commands, self._weights)[0])
        if self.random.random() < self._wrong:
            words = self._mutilate(words)
        return [w if isinstance(w, bytes) else str(w).encode("latin-1") for w in words]

    def of(self, command):
        """A call of this command."""
        words = list(command.words)
        if command.name == "object|freq":
            return words + [self._key(command)]
        numkeys = []
        for argument in command.arguments:
            words += self._expand(command, argument, numkeys)
        return words

    # --- the grammar ---

    def _expand(self, command, argument, numkeys):
        if "optional" in argument["flags"] and self.random.random() > 0.35:
            return []
        times = 1
        if "multiple" in argument["flags"]:
            times = numkeys.pop() if argument["type"] == "key" and numkeys else self.random.choice((1, 1, 2, 3))
        token = [argument["token"]] if argument.get("token", "") != "" else []
        if argument["type"] == "pure-token":
            return token
        out = [] if "multiple_token" in argument["flags"] else list(token)
        for _ in range(times):
            if "multiple_token" in argument["flags"]:
                out += token
            out += self._one(command, argument, numkeys)
        return out

    def _one(self, command, argument, numkeys):
        if argument["type"] == "oneof":
            # XADD's "*" would be a time; BYLEX: see _lexical; BITFIELD with OVERFLOW FAIL may make a key of zeros of
            # which Redis 7.0 tells no replica.
            choices = [inner for inner in argument["arguments"] if inner.get("token") not in ("*", "BYLEX", "FAIL")]
            return self._expand(command, dict(self.random.choice(choices), flags=set()), numkeys)
        if argument["type"] == "block":
            return [w for inner in argument["arguments"] for w in self._expand(command, inner, numkeys)]
        if argument["name"] == "numkeys":
            numkeys.append(self.random.choice((1, 2, 2, 3)))
            return [numkeys[-1]]
        if argument["type"] == "key":
            return [self._key(command)]
        return [self._value(command, argument)]

    def _key(self, command):
        if "lex" in command.name:
            return f"y:{self.random.randrange(KEYS_EACH)}"
        group = command.group
        if group not in _PREFIXES or self.random.random() < 0.05:
            group = self.random.choice(list(_PREFIXES))
        return f"{_PREFIXES[group]}:{self.random.randrange(KEYS_EACH)}"

    def _value(self, command, argument):
        pick, name, kind = self.random.choice, argument["name"], argument["type"]
        maker = getattr(self, "_for_" + name.replace("-", "_").replace(":", "_").replace("/", "_"), None)
        if maker:
            return maker(command)
        if kind == "double":
            return pick(_SCORES)
        if kind == "unix-time":
            past = self.random.random() < 0.05
            seconds = (_PAST_SECONDS if past else _FAR_SECONDS) + self.random.randrange(10**6)
            return seconds * (1000 if "milliseconds" in name else 1)
        if kind == "integer":
            return pick((0, 1, 2, 3, 5, -1, -2, self.random.randrange(-20, 200)))
        if kind == "pattern":
            return pick(("*", "s:*", "?:1", "[el]:*", "a*", "nothing"))
        return pick(_WORDS)

    # --- what names stand for ---

    def _for_seconds(self, _):
        return self.random.randrange(1000, 10**7) if self.random.random() < 0.97 else self.random.choice((0, -1, "x"))

    def _for_milliseconds(self, command):
        if command.name in ("xread", "xreadgroup"):
            return 5
        return self.random.randrange(10**6, 10**9) if self.random.random() < 0.97 else self.random.choice((0, -7))

    def _for_timeout(self, _):
        return "0.01"

    def _for_offset(self, command):
        if command.words[0].startswith("bitfield"):
            return self.random.choice((0, 1, 7, "#1", "#3", 100, 300))
        return self.random.choice((0, 1, 2, 5, self.random.randrange(300), -1))

    def _for_encoding(self, _):
        return self.random.choice(("u8", "i8", "u1", "i16", "u63", "i64", "u64", "i5"))

    def _for_increment(self, command):
        if command.name in ("incrbyfloat", "hincrbyfloat", "zincrby"):
            return self.random.choice(("1.5", "-2.25", "3e2", "0.1", "7", "x"))
        return self.random.choice((1, 5, -3, 100, 9223372036854775807, "1.5"))

    def _for_bit(self, _):
        return self.random.choice((0, 1, 1, 2))

    def _for_count(self, command):
        if command.name.endswith("scan"):
            return 100000
        return self.random.choice((0, 1, 1, 2, 3, 10, -1, -5, "x"))

    def _for_longitude(self, _):
        return round(self.random.uniform(-20, 20), 4)

    _for_latitude = _for_longitude

    def _for_radius(self, _):
        return self.random.choice((100, 1000, 3000.5))

    _for_width = _for_height = _for_radius

    def _for_score(self, _):
        return self.random.choice(_SCORES)

    def _for_weight(self, _):
        return self.random.choice((1, 2, "0.5", -1))

    def _range_end(self, command):
        if "lex" in command.name:
            return self.random.choice(("-", "+", "[a", "(b", "[one", "(x", "bad"))
        if command.group == "stream":
            return self.random.choice(("-", "+", "1-0", f"{self._stream_id // 2}-0", "(3-1", "bad"))
        return self.random.choice(_SCORES)

    _for_min = _for_max = _range_end

    def _for_start(self, command):
        if command.group == "stream":
            return self._range_end(command)
        return self.random.choice((0, 0, 1, 2, -3, -1, 5))

    def _for_end(self, command):
        return self._range_end(command) if command.group == "stream" else self._for_start(command)

    _for_stop = _for_end

    def _for_id(self, command):
        if command.name == "xadd":
            self._stream_id += 1
            late = self.random.random() < 0.05
            return f"{self._stream_id // 2 if late else self._stream_id}-{self.random.choice((1, 2, '*'))}"
        if command.name.startswith("xgroup"):
            return self.random.choice(("0", "$", "0-0", f"{self._stream_id // 2}-0"))
        return f"{max(1, self._stream_id - self.random.randrange(60))}-{self.random.choice((1, 2))}"

    _for_last_id = _for_max_deleted_entry_id = _for_id

    def _for_threshold(self, _):
        return self.random.choice((5, 20, 1, f"{max(1, self._stream_id - 30)}-0"))

    def _for_group(self, _):
        return self.random.choice(("g1", "g1", "g2", "g3"))

    _for_groupname = _for_group

    def _for_consumer(self, _):
        return self.random.choice(("c1", "c2", "c3"))

    _for_consumername = _for_consumer

    def _for_min_idle_time(self, _):
        return self.random.choice((0, 10**9))

    def _for_ms(self, _):
        return self.random.choice((0, 1000))

    def _for_script(self, command):
        # Read-only ones are loaded where they run, so their SHA1 is known there only: they get one of their own.
        return self.random.choice(SCRIPTS) + ("\n" if command.name == "eval_ro" else "")

    def _for_sha1(self, _):
        return self.random.choice(_SHAS)

    def _for_function(self, _):
        return self.random.choice(_FUNCTIONS)

    def _for_function_code(self, _):
        return self.random.choice(LIBRARIES)

    def _for_library_name(self, _):
        return self.random.choice(("lib1", "lib2", "nosuch"))

    def _for_operation(self, _):
        return self.random.choice(("AND", "OR", "XOR", "NOT"))

    def _for_db(self, _):
        return self.random.choice((0, 1, 2, 3, 99, -1))

    _for_destination_db = _for_index1 = _for_index2 = _for_db

    def _for_cursor(self, _):
        return 0

    def _for_version(self, _):
        return 5

    def _for_command(self, _):
        return self.random.choice(("get", "config|get", "nosuch"))

    _for_command_name = _for_command

    def _for_parameter(self, _):
        return self.random.choice(("hash-max-listpack-entries", "maxmemory-policy", "list*size", "databases", "nosuch"))

    def _for_category(self, _):
        return self.random.choice(("read", "geo", "nosuch"))

    _for_categoryname = _for_category

    def _for_channel(self, _):
        return self.random.choice(("news", "other"))

    _for_shardchannel = _for_channel

    # --- commands whose grammar needs help ---

    def _any_key(self, *groups):
        prefix = _PREFIXES[self.random.choice(groups or list(_PREFIXES))]
        return f"{prefix}:{self.random.randrange(KEYS_EACH)}"

    def _select(self):
        return ["SELECT", self.random.choice((0, 0, 1, 2, 3, 15, 16, -1, "x"))]

    def _keys(self):
        return ["KEYS", self.random.choice(("*", "s:*", "?:[1-3]", "z:1", "none"))]

    def _random_reads(self):
        return self.random.choice((["RANDOMKEY"], ["TIME"], ["LASTSAVE"], ["DBSIZE"], ["PING"], ["COMMAND", "COUNT"],
                                   ["COMMAND", "INFO", "get", "nosuch"], ["ECHO", self.random.choice(_WORDS)]))

    def _xread(self):
        keys = [self._any_key("stream") for _ in range(self.random.choice((1, 1, 2)))]
        ids = [self.random.choice(("0", "$", f"{self._stream_id // 2}-0", f"{self._stream_id}-0", "bad")) for _ in keys]
        count = ["COUNT", self.random.choice((1, 2, 10, -1))] if self.random.random() < 0.5 else []
        block = ["BLOCK", 5] if self.random.random() < 0.03 else []
        return ["XREAD", *count, *block, "STREAMS", *keys, *ids]

    def _xreadgroup(self):
        call = self._xread()
        at = call.index("STREAMS") + 1
        count = (len(call) - at) // 2
        ids = [self.random.choice((">", ">", "0", "1-0")) for _ in range(count)]
        noack = ["NOACK"] if self.random.random() < 0.2 else []
        middle = [w for w in call[1:at - 1] if w not in ("BLOCK",)] if "BLOCK" not in call else []
        return ["XREADGROUP", "GROUP", self._for_group(None), self._for_consumer(None), *middle, *noack, "STREAMS",
                *call[at:at + count], *ids]

    def _sort(self):
        """Without BY and ALPHA together: the order of equal ones is then that of the table."""
        key = self._any_key("list", "list", "set", "sorted-set", "string")
        options = [["ALPHA"], ["BY", self.random.choice(("s:*", "h:*->a"))], []]
        words = self.random.choice(options)
        if self.random.random() < 0.4:
            words = words + ["GET", self.random.choice(("#", "s:*", "h:*->one"))]
        if self.random.random() < 0.3:
            words = words + ["LIMIT", self.random.choice((0, 1)), self.random.choice((1, 3, -1))]
        if self.random.random() < 0.4:
            words = words + ["DESC"]
        if self.random.random() < 0.3:
            return ["SORT_RO", key, *words]
        store = ["STORE", self._any_key("list")] if self.random.random() < 0.3 else []
        return ["SORT", key, *words, *store]

    def _spop(self):
        """All of them: which ones a smaller number takes is random."""
        return ["SPOP", self._any_key("set"), 100000]

    def _lexical(self):
        """Keys of their own: with different scores, what lies between two members is left to chance."""
        key = f"y:{self.random.randrange(KEYS_EACH)}"
        if self.random.random() < 0.7:
            return ["ZADD", key, 0, self.random.choice(_WORDS), 0, self.random.choice(_WORDS)]
        limit = ["LIMIT", 1, 2] if self.random.random() < 0.3 else []
        return ["ZRANGE", key, self._range_end(Command("zrangebylex", {})), "+", "BYLEX", *limit]

    def _script_flush(self):
        return self.random.choice((["SCRIPT", "FLUSH"], ["FUNCTION", "FLUSH"], ["SCRIPT", "FLUSH", "SYNC"],
                                   ["FUNCTION", "STATS"], ["FUNCTION", "FLUSH", "ASYNC"]))

    def _restore(self):
        if not self.payloads:
            return ["RESTORE", self._any_key(), 0, "bad"]
        payload = self.random.choice(self.payloads)
        replace = ["REPLACE"] if self.random.random() < 0.6 else []
        return ["RESTORE", self._any_key(), self.random.choice((0, 0, 10**8)), payload, *replace]

    def _hello_like(self):
        return self.random.choice((["CLIENT", "SETNAME", self.random.choice(("me", "you", "with space"))],
                                   ["CLIENT", "GETNAME"], ["CLIENT", "ID"], ["CLIENT", "NOSUCH"], ["CLIENT"],
                                   ["CLIENT", "HELP"], ["ACL", "WHOAMI"], ["ACL", "CAT"], ["NOSUCH", "a", "b"],
                                   ["CONFIG", "GET", "maxmemory-policy"], ["CONFIG", "NOSUCH"], ["HELLO", "7"],
                                   ["HELLO", "x"], ["AUTH", "me", "wrong"], ["CLUSTER", "INFO"], ["UNWATCH"],
                                   ["DISCARD"], ["EXEC"], ["AUTH", "x"], ["CLIENT", "SETINFO", "LIB-NAME", "x"]))

    def _sometimes_flush(self):
        if self.random.random() < 0.9:
            return ["DEL", *(self._any_key() for _ in range(4))]
        return self.random.choice((["FLUSHDB"], ["FLUSHALL"], ["FLUSHALL", "ASYNC"], ["FLUSHDB", "SYNC"],
                                   ["SWAPDB", 0, 1], ["SWAPDB", 1, self._for_db(None)], ["FLUSHDB", "nonsense"]))

    # --- wrong on purpose ---

    def _mutilate(self, words):
        words = list(words)
        how = self.random.randrange(5)
        at = self.random.randrange(len(words))
        if how == 0 or not self._may_change(words):
            words[0] = "".join(self.random.choice((c.upper(), c.lower())) for c in str(words[0]))
        elif how == 1:
            words.append(self.random.choice(_WRONG_WORDS))
        elif how == 2 and len(words) > 1:
            words[max(1, at)] = self.random.choice(_WRONG_WORDS)
        elif how == 3 and len(words) > 1:
            words.pop()
        else:
            words = [words[0]]
        return words

    @staticmethod
    def _may_change(words):
        """Not where another word makes it wait long, or its answer a matter of chance."""
        name = str(words[0]).lower()
        return name not in _RARE and not name.endswith("scan") and name not in ("spop", "sort", "sort_ro", "flushall") and "BLOCK" not in words
