"""Nodes that are cut off from some or all of the others at every position of the chain, under load.

Cables are pulled: connections stay open and packets vanish. Tests still reach every proxy.
"""

import time

import pytest

from cluster import Cluster
from outage import CHAIN_STOPS, HEAD_LOST, NOTHING, ride_out
from processes import wait_until
from workload import CLEAN, DOWN, OK, READ, UNKNOWN, WRITE, Load

POSITIONS = ("head", "middle", "tail")


WRITE_TIMEOUT = 3


@pytest.fixture(name="cluster_with_networks", scope="module")
def shared_cluster(own_networks):
    assert own_networks
    with Cluster(nodes=3, own_networks=True,
                 settings={"coordinator.lease": "1s",
                           "chain.write_timeout": f"{WRITE_TIMEOUT}s"}) as cluster:
        yield cluster


@pytest.fixture(name="chain")
def healed_chain(cluster_with_networks):
    """Whole before and, whatever happened, after each test."""
    cluster_with_networks.heal()
    cluster_with_networks.wait_whole()
    yield cluster_with_networks
    cluster_with_networks.heal()


def cut(chain, relation):
    return lambda node: chain.cut(node, relation)


def heal(chain):
    return chain.heal


@pytest.mark.parametrize("position", POSITIONS)
def test_cut_off_from_everybody(chain, position):
    """The chain goes on without it; as long as it is alone it confirms nothing, read or written."""
    def confirms_nothing(load, victim, survivors):
        since = time.monotonic()

        def begun(kind):
            return [o for o in load.operations([victim], kind) if o.started > since]

        wait_until(lambda: all(len(begun(kind)) > 1 for kind in (WRITE, READ, CLEAN)), 30,
                   "two answers to each of its clients")
        load.wait_progress(survivors)
        assert {o.outcome for o in begun(WRITE)} <= {DOWN, UNKNOWN}, begun(WRITE)
        reads = begun(READ) + begun(CLEAN)
        assert {o.outcome for o in reads} == {DOWN}, reads
        # Each of them had its time: a connection that failed once is not given up.
        assert min(o.ended - o.started for o in reads) > WRITE_TIMEOUT / 2, reads

    ride_out(chain, position, cut(chain, "all"), heal(chain),
             HEAD_LOST if position == "head" else NOTHING, confirms_nothing)


@pytest.mark.parametrize("position", POSITIONS)
def test_cut_off_from_the_coordinators(chain, position):
    """It is replaced, hears so from the others, and serves clients through them."""
    def serves(load, victim, survivors):
        load.wait_progress([victim] + survivors)

    ride_out(chain, position, cut(chain, "coordinators"), heal(chain),
             HEAD_LOST if position == "head" else NOTHING, serves)


@pytest.mark.parametrize("position", POSITIONS)
def test_cut_off_from_its_peers(chain, position):
    """Its lease goes on and nothing commits until the coordinator sees the broken links."""
    ride_out(chain, position, cut(chain, "peers"), heal(chain), CHAIN_STOPS)


def test_short_cuts_change_nothing_for_good(chain):
    """A cable that is pulled and put back at once may cost a pause, never an answer."""
    with Load(chain) as load:
        for position in POSITIONS:
            load.wait_progress()
            node = chain.at(position)
            chain.cut(node, "all")
            chain.heal(node)
            load.wait_progress()
            chain.wait_whole()
    load.check(chain.nodes)
    assert {o.outcome for o in load.operations()} == {OK}
