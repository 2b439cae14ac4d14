"""The same long random sequences to a plain Redis and to a chain: equal answers, equal data (see dual.py)."""

import os

import pytest

import dual
from cluster import Cluster

COMMANDS = 110_000


@pytest.fixture(name="pair", scope="module")
def started_pair():
    with Cluster(nodes=3, redis_args=["--enable-debug-command", "yes"]) as cluster, dual.Dual(cluster) as pair:
        yield pair


@pytest.mark.parametrize("resp", [2, 3])
def test_a_chain_answers_as_a_plain_redis(pair, resp):
    """CATENA_DUAL_SEED chooses another sequence; a difference tells its seed."""
    run = pair.run(int(os.environ.get("CATENA_DUAL_SEED", "1")) + resp, COMMANDS, resp)
    assert run.sent >= COMMANDS


def test_the_comparison_sees_a_difference(pair):
    """The chain's data is changed behind the plain Redis' back."""
    pair.clear()
    pair.cluster.head().redis_client().set("only", "here")
    with pytest.raises(dual.Difference, match="only"):
        pair.compare_data()
    connection = pair.connections(2)[1]
    try:
        assert len(connection.run([[b"GET", b"only"], [b"PING"]])) == 1
    finally:
        connection.close()
