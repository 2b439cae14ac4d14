"""Redis' protocol by hand, for tests of exact bytes: of clients to a proxy, and among proxies."""

import hashlib
import hmac
import json
import os
import socket


def encode(*arguments):
    """One command as an array of bulk strings."""
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


class Closed(ConnectionError):
    """The other side closed the connection."""


class Wire:
    """A connection that sends bytes as they are and returns replies as they came, byte for byte."""

    def __init__(self, address, timeout=15):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bytes = b""
        self._at = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def call(self, *arguments):
        """Sends one command and returns the bytes of its reply."""
        self.send(encode(*arguments))
        return self.reply()

    def set_timeout(self, seconds):
        self.socket.settimeout(seconds)

    def answered_within(self, seconds):
        """Whether anything arrives in that time; it stays to be read."""
        if self._at < len(self._bytes):
            return True
        self.socket.settimeout(seconds)
        try:
            self._fill()
            return True
        except socket.timeout:
            return False
        finally:
            self.socket.settimeout(15)

    def reply(self):
        """The next complete reply, all of its bytes."""
        start = self._at
        # Bytes read before are dropped only here, so that `start` stays valid below.
        if start > 1 << 20:
            self._bytes = self._bytes[start:]
            self._at = start = 0
        self._skip()
        return self._bytes[start:self._at]

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def rest(self):
        """Everything until the other side closes."""
        try:
            while True:
                self._fill()
        except (Closed, ConnectionResetError):
            rest = self._bytes[self._at:]
            self._at = len(self._bytes)
            return rest

    def _fill(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise Closed()
        self._bytes += data

    def _line(self):
        while True:
            end = self._bytes.find(b"\r\n", self._at)
            if end >= 0:
                line = self._bytes[self._at:end]
                self._at = end + 2
                return line
            self._fill()

    def _skip(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind in b"$=!" and rest != b"-1":
            end = self._at + int(rest) + 2
            while len(self._bytes) < end:
                self._fill()
            self._at = end
        elif kind in b"*~>%|" and rest != b"-1":
            for _ in range(int(rest) * (2 if kind in b"%|" else 1)):
                self._skip()
            if kind == b"|":  # attributes precede the reply they belong to
                self._skip()


class PeerWire(Wire):
    """A connection that proves the cluster's secret, as proxies do (proxy/auth/proof.h)."""

    def __init__(self, address, secret, cluster="catena", timeout=15):
        super().__init__(address, timeout)
        self.listener_proved = False
        self.answer = self._prove(secret, cluster)  # b"+OK\r\n", or the refusal

    def _prove(self, secret, cluster):
        mine = os.urandom(16).hex()
        challenge = self.call("CATENA.AUTH", "1", cluster, mine)
        if challenge.startswith(b"-"):
            return challenge
        version, theirs, proof = (part.decode() for part in challenge.split(b"\r\n")[2:7:2])
        assert version == "1", version
        self.listener_proved = proof == _proof(secret, "listener", cluster, mine, theirs)
        return self.call("CATENA.PROVE", _proof(secret, "dialler", cluster, mine, theirs))


def _proof(secret, role, cluster, dialler, listener):
    fields = f"{role}|1|1|{cluster}|{dialler}|{listener}"
    return hmac.new(secret.encode(), fields.encode(), hashlib.sha256).hexdigest()


def hello(configuration, sender, sender_incarnation, to, to_incarnation, replid="", join=False):
    """A chain link's first message; configuration as catenactl status --json shows it."""
    return encode("CATENA.HELLO", json.dumps(configuration), sender, sender_incarnation, to,
                  to_incarnation, "join" if join else "chain", replid)
