"""Scripts that run for too long: others get -BUSY, any proxy can end them, nothing is lost."""

import pytest

from cluster import Cluster
from processes import wait_until
from wire import Wire, encode

POSITIONS = ("head", "middle", "tail")
ENDLESS = ("EVAL", "while true do end", "0")
LIBRARY = "#!lua name=l\nredis.register_function('endless', function() while true do end end)"
# Longer than a lease and a heartbeat: a failover would have happened.
RUNS_MS = 2000


@pytest.fixture(name="chain", scope="module")
def started_cluster():
    with Cluster(nodes=3, redis_args=["--busy-reply-threshold", "50"]) as cluster:
        yield cluster


@pytest.fixture(name="unharmed", autouse=True)
def nothing_fails_over(chain):
    before = chain.chain_status()["record"]["configuration"]
    yield
    assert chain.chain_status()["record"]["configuration"] == before
    chain.wait_whole()


@pytest.fixture(name="connect")
def connections(chain):
    opened = []

    def connect(position):
        opened.append(Wire(chain.at(position).clients))
        return opened[-1]

    yield connect
    for wire in opened:
        wire.close()
    # What a test that failed has left would make all others wait.
    for position in POSITIONS:
        ask_backend(chain.at(position), "SCRIPT", "KILL")
        ask_backend(chain.at(position), "FUNCTION", "KILL")


def wait_busy(wire, words=("SET", "probe", "x")):
    return wait_until(lambda: wire.call(*words).startswith(b"-BUSY") and wire, 10, "-BUSY")


def ask_backend(node, *words):
    host, port = node.backend.rsplit(":", 1)
    with Wire(f"{host}:{port}") as direct:
        return direct.call(*words)


def busy_reply(node):
    """What this version says, of a script or a function."""
    return ask_backend(node, "GET", "k")


@pytest.mark.parametrize("runner, killer",
                         [("head", "tail"), ("middle", "middle"), ("tail", "head")])
@pytest.mark.parametrize("kind", ["script", "function"])
def test_others_are_told_and_anybody_can_end_it(chain, connect, runner, killer, kind):
    running, ending = connect(runner), connect(killer)
    others = [connect(position) for position in POSITIONS]
    assert ending.call("SET", "kept", killer) == b"+OK\r\n"
    running.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    running.send(encode(*ENDLESS) if kind == "script" else encode("FCALL", "endless", "0"))
    wait_busy(ending)
    wanted = busy_reply(chain.head())
    assert wanted.startswith(b"-BUSY ")
    for other in others:
        for words in (("SET", "k", "1"), ("EVAL", "return 1", "0"), ("INCR", "n"), ("SORT", "l"),
                      ("BLPOP", "l", "1"), ("FCALL", "endless", "0")):
            assert other.call(*words) == wanted, words
        other.send(encode("SET", "a", "1") + encode("LPUSH", "b", "1") + encode("INFO", "server"))
        replies = other.replies(3)
        assert replies[:2] == [wanted] * 2
    # The other members serve what is clean; the head's database answers nobody.
    for other, position in zip(others, POSITIONS):
        assert other.call("GET", "kept") == (wanted if position == "head" else
                                             b"$%d\r\n%b\r\n" % (len(killer), killer.encode()))
    assert ending.call(kind, "KILL") == b"+OK\r\n"
    assert b"killed by user" in running.reply()
    for other in others + [running]:
        assert other.call("GET", "kept") == b"$%d\r\n%b\r\n" % (len(killer), killer.encode())
        assert other.call("EXISTS", "k", "n", "a", "b") == b":0\r\n"
    assert ending.call(kind, "KILL").startswith(b"-NOTBUSY")


@pytest.mark.parametrize("position", POSITIONS)
def test_a_transaction_that_could_not_begin(chain, connect, position):
    running, other, ending = connect("head"), connect(position), connect("tail")
    running.send(encode(*ENDLESS))
    wait_busy(ending)
    assert other.call("MULTI") == b"+OK\r\n"
    assert ending.call("SCRIPT", "KILL") == b"+OK\r\n"
    running.reply()
    # A client may have sent it before it could know.
    assert other.call("SET", "k", "0").startswith(b"-BUSY ")
    assert other.call("EXEC").startswith(b"-EXECABORT Transaction discarded because of: BUSY ")
    assert other.call("SET", "k", "1") == b"+OK\r\n"
    for words in (("MULTI",), ("DEL", "k"), ("EXEC",)):
        last = other.call(*words)
    assert last == b"*1\r\n:1\r\n"


@pytest.mark.parametrize("runner", ["middle", "tail"])
def test_read_only_scripts_are_ended_where_they_run(chain, connect, runner):
    running, ending, other = connect(runner), connect(runner), connect("head")
    running.send(encode("EVAL_RO", "while true do end", "0"))
    wait_busy(ending, ("GET", "k"))
    assert other.call("GET", "k") == b"$-1\r\n"  # nobody else notices
    assert ending.call("SCRIPT", "KILL") == b"+OK\r\n"
    assert b"killed by user" in running.reply()
    assert ending.call("SCRIPT", "KILL").startswith(b"-NOTBUSY")
    assert other.call("SET", "seen", runner) == b"+OK\r\n"
    assert running.call("GET", "seen") == b"$%d\r\n%b\r\n" % (len(runner), runner.encode())
    chain.head().redis_client().delete("seen")


@pytest.mark.parametrize("runner", ["head", "tail"])
def test_a_script_that_wrote_cannot_be_ended_and_is_not_lost(chain, connect, runner):
    """It is busy for longer than a lease; what it wrote, and what waited, is on every node."""
    running, other = connect(runner), connect("tail")
    running.send(encode("EVAL", "redis.call('set', KEYS[1], 'begun') local t = redis.call('time') "
                        "local till = t[1] * 1000 + t[2] / 1000 + ARGV[1] repeat "
                        "t = redis.call('time') until t[1] * 1000 + t[2] / 1000 > till "
                        "redis.call('set', KEYS[2], 'ended') return 'done'", "2", "w1", "w2",
                        str(RUNS_MS)))
    wait_busy(other)
    assert other.call("SCRIPT", "KILL").startswith(b"-UNKILLABLE")
    assert other.call("SET", "w1", "mine").startswith(b"-BUSY")
    assert running.reply() == b"$4\r\ndone\r\n"
    for position in POSITIONS:
        assert connect(position).call("MGET", "w1", "w2") == b"*2\r\n$5\r\nbegun\r\n$5\r\nended\r\n"
    chain.head().redis_client().delete("w1", "w2", "kept")


@pytest.mark.parametrize("position", POSITIONS)
def test_order_of_scripts_and_other_commands(connect, position):
    """Scripts have a connection of their own; a pipeline's order holds all the same."""
    wire = connect(position)
    commands, wanted = [], []
    for i in range(60):
        commands += [("SET", "o", i), ("EVAL", "return redis.call('incr', KEYS[1])", 1, "o"),
                     ("GET", "o"), ("EVAL_RO", "return redis.call('get', KEYS[1])", 1, "o"),
                     ("EVAL", "return redis.call('append', KEYS[1], 'x')", 1, "o"), ("GET", "o")]
        text = b"%d" % (i + 1)
        bulk = b"$%d\r\n%b\r\n" % (len(text), text)
        wanted += [b"+OK\r\n", b":%d\r\n" % (i + 1), bulk, bulk, b":%d\r\n" % (len(text) + 1),
                   b"$%d\r\n%bx\r\n" % (len(text) + 1, text)]
    wire.send(b"".join(encode(*command) for command in commands))
    assert wire.replies(len(commands)) == wanted
