"""Nodes that die, hang, stop and come back at every position of the chain, under load."""

import time

import pytest

from cluster import Cluster
from outage import (CHAIN_STOPS, HEAD_LOST, NOTHING, check_clients, check_settled, others,
                    ride_out)
from processes import wait_until
from workload import CLEAN, READ, WRITE, Load

POSITIONS = ("head", "middle", "tail")
LEASE = 1.0


@pytest.fixture(name="show")
def fixture_show(capsys):
    """Prints past pytest: figures that are worth seeing when all is well."""
    def show(text):
        with capsys.disabled():
            print(f"\n  {text}", end="")
    return show


def allowed_at(position):
    return HEAD_LOST if position == "head" else NOTHING


def epoch(cluster):
    chain = cluster.chain_status()
    return chain["record"]["configuration"]["epoch"] if chain else 0


def wait_whole_again(cluster, before):
    """... after a fault so short that the coordinator may not have noticed it yet."""
    wait_until(lambda: epoch(cluster) > before, 30, f"an epoch after {before}")
    cluster.wait_whole()


# --- one node ---


@pytest.mark.parametrize("position", POSITIONS)
def test_proxy_killed(chain, position):
    ride_out(chain, position, lambda node: node.proxy.kill(), lambda node: node.proxy.start(),
             allowed_at(position), depth=20)


@pytest.mark.redis_only("there is no process of its own")
@pytest.mark.parametrize("position", POSITIONS)
def test_redis_killed(chain, position):
    """The proxy lives and says itself that it cannot go on."""
    ride_out(chain, position, lambda node: node.redis.kill(), lambda node: node.redis.start(),
             allowed_at(position))


@pytest.mark.redis_only("there is no process of its own")
@pytest.mark.parametrize("position", POSITIONS)
def test_redis_restarted_empty(chain, position):
    """It is back before anybody may have missed it; its emptiness must not become the chain's."""
    with Load(chain) as load:
        load.wait_progress()
        victim = chain.at(position)
        before = epoch(chain)
        began = time.monotonic()
        victim.redis.restart()
        wait_whole_again(chain, before)
        load.wait_progress()
        over = time.monotonic()
    check_settled(chain, load)
    check_clients(load, others(chain, victim), began, over, allowed_at(position))


@pytest.mark.parametrize("position", POSITIONS)
def test_proxy_paused(chain, position):
    """Out for three leases without knowing it; questions asked meanwhile are answered when it wakes."""
    def three_leases_passed(load, victim, survivors):
        paused = time.monotonic()
        wait_until(lambda: time.monotonic() - paused > 2 * LEASE, 10, "three leases since the pause")
        load.wait_progress(survivors)

    ride_out(chain, position, lambda node: node.proxy.pause(), lambda node: node.proxy.resume(),
             allowed_at(position), three_leases_passed, depth=20)


# --- how long it takes ---


def test_writes_resume_within_a_lease_and_a_half(chain, show):
    """After SIGKILL of a proxy; 20 times, all positions. Clean keys are readable all the time."""
    resumed = {position: [] for position in POSITIONS}
    with Load(chain) as load:
        for number in range(20):
            position = POSITIONS[number % 3]
            victim = chain.at(position)
            survivors = others(chain, victim)
            load.wait_progress()
            began = time.monotonic()
            victim.proxy.kill()
            killed = time.monotonic()
            chain.wait_whole(members=2, without=[victim.id])
            load.wait_progress(survivors)
            over = time.monotonic()
            resumed[position] += [load.resumed(node, WRITE, killed) - began for node in survivors]
            early = [o for o in load.failures(survivors, since=began) if o.kind in (CLEAN, READ)]
            assert not early, early[:5]
            victim.proxy.start()
            chain.wait_whole()
            assert not [o for o in load.failures(survivors, since=over) if o.started > over]
    check_settled(chain, load)
    everything = sorted(sum(resumed.values(), []))
    for position, times in resumed.items():
        show(f"{position} killed, writes resume after (s): "
             f"{' '.join(f'{t:.2f}' for t in sorted(times))}")
    assert len(everything) == 40
    assert everything[-1] <= 1.5


# --- several nodes ---


@pytest.mark.parametrize("survivor_at", POSITIONS)
def test_two_of_three_proxies_killed(chain, survivor_at):
    """The one that is left goes on alone, and the others join it again."""
    with Load(chain) as load:
        load.wait_progress()
        survivor = chain.at(survivor_at)
        victims = others(chain, survivor)
        began = time.monotonic()
        for victim in victims:
            victim.proxy.kill()
        chain.wait_whole(members=1, without=[victim.id for victim in victims])
        load.wait_progress([survivor])
        over = time.monotonic()
        for victim in victims:
            victim.proxy.start()
        chain.wait_whole()
        load.wait_progress()
    check_settled(chain, load)
    check_clients(load, [survivor], began, over,
                  NOTHING if survivor_at == "head" else HEAD_LOST)


def test_all_proxies_restarted_at_once(chain):
    """The Redis servers live: the last head's has everything that was ever answered."""
    with Load(chain) as load:
        load.wait_progress()
        before = epoch(chain)
        for node in chain.nodes:
            node.proxy.kill()
        for node in chain.nodes:
            node.proxy.start()
        wait_whole_again(chain, before)
        load.wait_progress()
    check_settled(chain, load)


@pytest.mark.redis_only("there is no process of its own")
def test_everything_restarted_with_aof():
    """Proxies and databases die together; the databases kept what they had answered."""
    with Cluster(nodes=3, settings={"chain.recovery": "automatic"},
                 redis_args=["--appendonly", "yes", "--appendfsync", "always"]) as cluster:
        for number in range(2):
            with Load(cluster) as load:
                load.wait_progress()
                before = epoch(cluster)
                for node in cluster.nodes:
                    node.proxy.kill()
                    node.redis.kill()
                for node in cluster.nodes:
                    node.redis.start()
                    node.proxy.start()
                wait_whole_again(cluster, before)
                load.wait_progress()
            check_settled(cluster, load)
            log = cluster.coordinators[0].log.read_text()
            assert log.count("automatic recovery: the last head") == number + 1
            # The second time another is the head, and databases are there that were resynced.
            if number == 0:
                before = epoch(cluster)
                cluster.head().proxy.restart()
                wait_whole_again(cluster, before)


# --- graceful ---


@pytest.mark.parametrize("position", POSITIONS)
def test_graceful_stop(chain, position, show):
    """A proxy that is told to stop answers what it owes: nobody elsewhere notices when it is a follower."""
    with Load(chain, depth=20) as load:
        load.wait_progress()
        victim = chain.at(position)
        survivors = others(chain, victim)
        began = time.monotonic()
        assert victim.proxy.stop()
        stopped = time.monotonic()
        assert victim.proxy.exit_code() == 0
        chain.wait_whole(members=2, without=[victim.id])
        load.wait_progress(survivors)
        over = time.monotonic()
        victim.proxy.start()
        chain.wait_whole()
        load.wait_progress()
    check_settled(chain, load)
    failed = load.failures(survivors, since=began)
    show(f"{position}: gone after {stopped - began:.2f} s, writes elsewhere paused for "
         f"{load.longest_pause(survivors, WRITE, began):.2f} s, reads for "
         f"{load.longest_pause(survivors, READ, began):.2f} s, {len(failed)} failed")
    check_clients(load, survivors, began, over, allowed_at(position))
    # Its own clients: answered or disconnected; none had to be told that an outcome is unknown.
    own = {o.outcome for o in load.failures([victim])}
    assert own <= {"closed"}, own


# --- without coordinators ---


def lease_left(node):
    return node.redis_client().info("catena")["catena_lease_left_ms"]


def test_etcd_away_for_a_while(chain):
    """The leader sends everybody away meanwhile, and leads on when etcd is back: it takes nobody for
    dead."""
    before = epoch(chain)
    for process in chain.etcds:
        process.kill()
    wait_until(lambda: not any(lease_left(node) for node in chain.nodes), 20, "leases to run out")
    for process in chain.etcds:
        process.start()
    wait_until(lambda: all(lease_left(node) for node in chain.nodes), 20, "leases")
    chain.wait_whole()
    assert epoch(chain) == before


def test_all_coordinators_and_etcd_gone(chain):
    """A whole chain serves on without leases; failover works again when they are back."""
    with Load(chain) as load:
        load.wait_progress()
        began = time.monotonic()
        for process in chain.coordinators + chain.etcds:
            process.kill()
        wait_until(lambda: not any(lease_left(node) for node in chain.nodes), 10, "leases to run out")
        load.wait_progress(count=100)
        for process in chain.etcds + chain.coordinators:
            process.start()
        chain.wait_whole()
        wait_until(lambda: all(lease_left(node) for node in chain.nodes), 10, "leases")
        load.wait_progress()
    check_settled(chain, load)
    check_clients(load, chain.nodes, began, began, NOTHING)
    ride_out(chain, "middle", lambda node: node.proxy.kill(), lambda node: node.proxy.start(),
             NOTHING)


@pytest.mark.parametrize("position", POSITIONS)
def test_node_dies_while_coordinators_are_gone(chain, position):
    """Nobody replaces it until they are back: nothing is confirmed meanwhile, and then it goes on."""
    with Load(chain) as load:
        load.wait_progress()
        victim = chain.at(position)
        survivors = others(chain, victim)
        for process in chain.coordinators + chain.etcds:
            process.kill()
        began = time.monotonic()
        victim.proxy.kill()
        wait_until(lambda: load.failures(survivors, WRITE, began), 20, "a write that fails")
        for process in chain.etcds + chain.coordinators:
            process.start()
        chain.wait_whole(members=2, without=[victim.id])
        load.wait_progress(survivors)
        over = time.monotonic()
        victim.proxy.start()
        chain.wait_whole()
        load.wait_progress()
    check_settled(chain, load)
    check_clients(load, survivors, began, over, CHAIN_STOPS)


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_leader_of_coordinators_lost(fault, show):
    """Another one leads; nobody is taken out for it, and nodes that die then are replaced."""
    with Cluster(nodes=3, coordinators=3, settings={"coordinator.lease": "1s"}) as cluster:
        with Load(cluster) as load:
            load.wait_progress()
            before, first = epoch(cluster), cluster.status()["leader"]
            leader = next(c for c in cluster.coordinators if c.address == first)
            began = time.monotonic()
            getattr(leader, fault)()
            wait_until(lambda: (cluster.status() or {"leader": ""})["leader"] not in ("", first), 20,
                       "another coordinator leads")
            took = time.monotonic() - began
            cluster.wait_whole()
            load.wait_progress()
            assert epoch(cluster) == before
            pauses = {kind: load.longest_pause(cluster.nodes, kind, began)
                      for kind in (WRITE, READ, CLEAN)}
            assert max(pauses.values()) < LEASE / 2  # nobody waits for a lease: there is the verify
            if fault == "pause":
                leader.resume()
                wait_until(lambda: (cluster.status() or {"leader": ""})["leader"] not in ("", first),
                           10, "the one that woke does not lead")
            over = time.monotonic()
        check_settled(cluster, load)
        show(f"{fault}: another leads after {took:.2f} s; longest pauses (s): "
             f"{', '.join(f'{kind} {pause:.2f}' for kind, pause in pauses.items())}")
        check_clients(load, cluster.nodes, began, over, NOTHING)
        ride_out(cluster, "tail", lambda node: node.proxy.kill(), lambda node: node.proxy.start(),
                 NOTHING)


@pytest.mark.parametrize("position", POSITIONS)
def test_leader_dies_together_with_a_node(position):
    """The next leader has to wait for the leases of the last before it removes the node."""
    with Cluster(nodes=3, coordinators=2, settings={"coordinator.lease": "1s"}) as cluster:
        first = cluster.status()["leader"]
        leader = next(c for c in cluster.coordinators if c.address == first)

        def strike(node):
            leader.kill()
            node.proxy.kill()

        ride_out(cluster, position, strike, lambda node: node.proxy.start(), allowed_at(position))
