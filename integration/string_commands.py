"""Random commands on strings and keys, right and wrong ones, for servers that have nothing else.

Nothing is drawn from anything but the given random.Random, so a seed is a sequence.
"""

KEYS = ["a", "b", "c", "d", "e", "key:1", "key:2", "long" * 20, "", "\x00\r\n\xff"]
_VALUES = ["", "0", "1", "-1", "10", "9999", "10000", "127", "-128", "128", "32768", "2147483648", "-2147483649",
           "9223372036854775807", "-9223372036854775808", "9223372036854775808", "007", "+5", " 5", "5 ", "3.5", "1e3",
           "-0", "-0.0", "0x10", "inf", "nan", "1e-20", "100000000000000000000", "3.0000000000000000000001", "abc",
           "hello world", "\x00", "\x00\xff\x00", "\xff" * 9, "foobar" * 10, "x" * 44, "y" * 45, "ohmytext", "mynewtext",
           "a\x00b", "\r\n"]
_NUMBERS = ["0", "1", "2", "-1", "-2", "3", "7", "8", "9", "15", "16", "31", "63", "64", "100", "-100", "1000", "-0", "01",
            "+1", "", " 1", "1.5", "x", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "4000"]
_OFFSETS = ["0", "1", "5", "7", "8", "100", "1001", "#0", "#1", "#3", "-1", "#-1", "x", "#", "", "4294967296",
            "9223372036854775807", "#9223372036854775807", "01"]
# Far enough that no key runs out while the two servers are compared; or past; or no time at all.
_SECONDS = ["1000", "100000", "0", "-1", "-1000", "x", "", "1.5", "9223372036854775807", "9223372036854775",
            "9223372036854776", "-9223372036854775808", "10000000000"]
_FAR, _FAR_MS = "4102444800", "4102444800000"
_PAST, _PAST_MS = "1000000000", "1000000000000"
_TYPES = ["u8", "i8", "u1", "i1", "u63", "i64", "i16", "u7", "i5", "u64", "i65", "i0", "x8", "u", "", "u08", "U8", "i63"]
_WORDS = ["nx", "xx", "get", "ex", "px", "exat", "pxat", "keepttl", "persist", "gt", "lt", "replace", "absttl", "db", "x",
          "", "idx", "len", "withmatchlen", "minmatchlen", "byte", "bit", "match", "count", "type", "limit", "0", "-1",
          "nx\x00", "sync", "async"]


def _crc64_table():
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC64 = _crc64_table()


def sealed(body, version=10):
    """`body` with what DUMP puts behind a value, as if it were right."""
    data = body + version.to_bytes(2, "little")
    crc = 0
    for byte in data:
        crc = _CRC64[(crc ^ byte) & 0xFF] ^ crc >> 8
    return data + crc.to_bytes(8, "little")


class StringCommands:
    def __init__(self, rng, payloads):
        """`payloads`: what DUMP answered, for RESTORE."""
        self._rng = rng
        self._payloads = payloads
        self._forms = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("_c_")]

    def next(self):
        """The next command: its words as bytes."""
        words = self._rng.choice(self._forms)()
        # A cursor that is not known may go on anywhere; all of COMMAND differs.
        if self._rng.random() < 0.06 and words[0] not in ("scan", "command"):
            words = self._spoil(words)
        return [word if isinstance(word, bytes) else word.encode("latin-1") for word in words]

    def _spoil(self, words):
        words = list(words)
        where = self._rng.randrange(1, len(words) + 1)
        what = self._rng.randrange(4)
        if what == 0:
            words.insert(where, self._rng.choice(_WORDS))
        elif what == 1:
            words = words[:where]
        elif what == 2 and where < len(words):
            # No number where it might be a time that runs out while the servers are compared.
            timed = {"ex", "px", "EX", "setex", "psetex", "expire", "pexpire", "restore"} & {*map(str, words)}
            words[where] = self._rng.choice(_WORDS if timed else _WORDS + _NUMBERS)
        else:
            words[0] = words[0].upper()
        return words

    def _key(self):
        return self._rng.choice(KEYS)

    def _value(self):
        if self._rng.random() < 0.3:
            return "".join(self._rng.choice("ab\x00\xff7") for _ in range(self._rng.randrange(60)))
        return self._rng.choice(_VALUES)

    def _number(self):
        return self._rng.choice(_NUMBERS)

    def _some(self, make, least=1, most=4):
        return [make() for _ in range(self._rng.randrange(least, most + 1))]

    def _maybe(self, *words):
        return list(words) if self._rng.random() < 0.4 else []

    def _one(self, *words):
        return self._rng.choice(words)

    def _lifetime(self):
        name = self._one("ex", "px", "exat", "pxat", "EX")
        time = self._rng.choice(_SECONDS)
        if name == "exat":
            time = self._one(_FAR, _FAR, _PAST, time)
        elif name == "pxat":
            time = self._one(_FAR_MS, _FAR_MS, _PAST_MS, time)
        elif name == "px":
            time = self._one("1000000", "100000000", time if time not in ("1000",) else "1000000")
        return [name, time]

    # ---- strings ----
    def _c_set(self):
        options = self._maybe(self._one("nx", "xx", "NX")) + self._maybe("get")
        options += self._one([], [], ["keepttl"], self._lifetime(), self._lifetime())
        if self._rng.random() < 0.1:
            options.reverse()
        return ["set", self._key(), self._value()] + options

    def _c_set_plain(self):
        return ["set", self._key(), self._value()]

    def _c_reads(self):
        return [self._one("get", "strlen", "getdel", "get"), self._key()]

    def _c_setnx(self):
        return [self._one("setnx", "getset", "append"), self._key(), self._value()]

    def _c_setex(self):
        name = self._one("setex", "psetex")
        return [name, self._key(), self._rng.choice(_SECONDS) if name == "setex" else
                self._one("1000000", "0", "-1", "x", "9223372036854775807"), self._value()]

    def _c_getex(self):
        return ["getex", self._key()] + self._one([], ["persist"], self._lifetime(), self._lifetime())

    def _c_many(self):
        if self._rng.random() < 0.5:
            return ["mget"] + self._some(self._key)
        pairs = [word for _ in range(self._rng.randrange(1, 4)) for word in (self._key(), self._value())]
        return [self._one("mset", "msetnx")] + pairs

    def _c_range(self):
        return [self._one("getrange", "substr"), self._key(), self._number(), self._number()]

    def _c_setrange(self):
        return ["setrange", self._key(), self._one(self._number(), self._one("0", "3", "10", "536870912")),
                self._value()]

    def _c_incr(self):
        return self._one([self._one("incr", "decr"), self._key()],
                         [self._one("incrby", "decrby"), self._key(), self._number()])

    def _c_incrbyfloat(self):
        return ["incrbyfloat", self._key(), self._one(self._value(), "0.1", "-0.1", "1e10", "1.5e-5", "5", "-1e308",
                                                      "1e4900", "123456789.123456789", "0.30000000000000004")]

    def _c_lcs(self):
        options = self._maybe(self._one("idx", "len")) + self._maybe("withmatchlen")
        options += self._maybe("minmatchlen", self._one("0", "1", "4", self._number()))
        return ["lcs", self._key(), self._key()] + options

    # ---- bits ----
    def _c_setbit(self):
        return ["setbit", self._key(), self._rng.choice(_OFFSETS), self._one("0", "1", "1", "2", "x", "-1", "01")]

    def _c_getbit(self):
        return ["getbit", self._key(), self._rng.choice(_OFFSETS)]

    def _c_bitcount(self):
        ends = self._one([], [self._number()], [self._number(), self._number()],
                         [self._number(), self._number(), self._one("byte", "bit", "BIT", "x")])
        return ["bitcount", self._key()] + ends

    def _c_bitpos(self):
        ends = self._one([], [self._number()], [self._number(), self._number()],
                         [self._number(), self._number(), self._one("byte", "bit", "BIT", "x")])
        return ["bitpos", self._key(), self._one("0", "1", "0", "1", "2", "x")] + ends

    def _c_bitop(self):
        return ["bitop", self._one("and", "or", "xor", "not", "AND", "x"), self._key()] + self._some(self._key, 1, 3)

    def _field(self):
        name = self._one("get", "set", "incrby", "incrby", "GET")
        words = [name, self._rng.choice(_TYPES[:9] + _TYPES), self._rng.choice(_OFFSETS[:10] + _OFFSETS)]
        if name.lower() != "get":
            words.append(self._number())
        return self._maybe("overflow", self._one("wrap", "sat", "fail", "FAIL", "x")) + words

    def _c_bitfield(self):
        words = [word for _ in range(self._rng.randrange(0, 4)) for word in self._field()]
        return [self._one("bitfield", "bitfield", "bitfield_ro"), self._key()] + words

    # ---- keys ----
    def _c_keys(self):
        return [self._one("del", "unlink", "exists", "touch")] + self._some(self._key)

    def _c_type(self):
        return self._one(["type", self._key()], ["object", self._one("refcount", "encoding"), "absent"])

    def _c_rename(self):
        return [self._one("rename", "renamenx"), self._key(), self._key()]

    def _c_copy(self):
        return ["copy", self._key(), self._key()] + self._maybe("replace") + self._maybe("db", self._one("0", "1", "x"))

    def _c_expire(self):
        name = self._one("expire", "pexpire", "expireat", "pexpireat")
        time = self._rng.choice(_SECONDS)
        if name == "pexpire" and time == "1000":
            time = "1000000"
        if name.endswith("at"):
            time = self._one(time, _FAR if name == "expireat" else _FAR_MS, _PAST if name == "expireat" else _PAST_MS)
        return [name, self._key(), time] + self._maybe(self._one("nx", "xx", "gt", "lt")) + self._maybe(
            self._one("nx", "xx", "gt", "lt", "x"))

    def _c_ttl(self):
        return [self._one("ttl", "pttl", "expiretime", "pexpiretime", "persist"), self._key()]

    def _c_dump(self):
        return ["dump", self._key()]

    def _payload(self):
        """What DUMP answered, or damaged, the checksum right or wrong; always of a string."""
        payload = self._rng.choice(self._payloads)
        draw = self._rng.random()
        if draw < 0.3 and len(payload) > 12:
            body = payload[:-10]
            at = self._rng.randrange(1, min(len(body), 40))
            body = body[:at] + bytes([body[at] ^ 1 << self._rng.randrange(8)]) + body[at + self._rng.randrange(1, 4):]
            return sealed(body, self._one(10, 10, 10, 9, 11))
        if draw < 0.4:
            return sealed(b"\x00" + bytes(self._rng.randrange(256) for _ in range(self._rng.randrange(8))))
        if draw < 0.5 and payload:
            at = self._rng.randrange(len(payload))
            return payload[:at] + bytes([payload[at] ^ 1 << self._rng.randrange(8)]) + payload[at + 1:]
        return payload

    def _c_restore(self):
        payload = self._payload()
        return ["restore", self._key(), self._one("0", "0", "1000000", "-1", "x", _FAR_MS), payload] + self._maybe(
            "replace") + self._maybe("absttl") + self._maybe(self._one("idletime", "freq"), self._one("5", "-1", "x", "300"))

    def _c_walk(self):
        return self._one(["scan", "0", "count", "1000"] + self._maybe("match", self._one("*", "k*", "[a-c]", "?")) +
                         self._maybe("type", self._one("string", "list", "STRING")),
                         ["keys", self._one("*", "key:?", "[^a]", "", "\\a", "*\xff")], ["randomkey"],
                         ["scan", self._one("x", "-", " 0", "1x", "18446744073709551616")],
                         ["scan", "0", self._one("count", "match", "x"), self._one("0", "-1", "x")])

    def _c_rare(self):
        return self._one(["flushall"] + self._maybe(self._one("sync", "async", "x")), ["flushdb"], ["getdel", self._key()],
                         ["nosuch", "a", "b c"], ["nosuch"], ["object", "x"], ["object"], ["x" * 200, "y" * 200, "z"])

    def _c_server(self):
        return self._one(["ping"], ["ping", self._value()], ["echo", self._value()], ["select", self._one("0", "x", "99")],
                         ["command", "count", "x"], ["command", "getkeys", "mset", "a", "1", "b", "2"],
                         ["command", "getkeysandflags", "bitop", "and", "a", "b", "c"], ["command", "info", "set", "getex"],
                         ["command", "info", "object|encoding"], ["object", "help"], ["config", "x"],
                         ["command", "getkeys", "ping", "x"], ["config", "get", "save"], ["config"])
