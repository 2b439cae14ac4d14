"""Programs as people run them, on a chain: Redis clients, job queues and locks, while nodes die.

What a job queue did is counted by what its workers wrote into files, never by asking the database.
"""

import asyncio
import collections
import contextlib
import gc
import importlib
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio
from celery import chord, group
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from processes import Process, stop_all, wait_until

PROGRAMS = Path(__file__).resolve().parent / "programs"
POSITIONS = ("head", "middle", "tail")


@pytest.fixture(name="chain")
def empty_chain(chain):
    chain.head().redis_client().flushall()
    return chain


@pytest.fixture(name="start")
def started_programs(chain):
    """start(name, argv, environment): a program that ends with the test, its output in a log."""
    started = []

    def start(name, argv, **environment):
        argv = ["env", *(f"{key}={value}" for key, value in environment.items()), *argv]
        log = chain.directory / "logs" / f"{name}-{len(started)}-{time.monotonic_ns()}.log"
        process = Process(name, argv, log)
        process.start()
        started.append(process)
        return process

    yield start
    stop_all(started, 10)


def port(node):
    return node.clients.rsplit(":", 1)[1]


def output(process):
    return process.log.read_text(encoding="utf-8", errors="replace")


def wait_output(process, text, count=1, timeout=30):
    """Waits until the program has printed a line so often."""
    def printed():
        assert process.running(), f"{process.name} ended:\n{process.log_tail()}"
        return output(process).splitlines().count(text) >= count

    wait_until(printed, timeout, lambda: f"{process.name} prints {text!r}:\n{process.log_tail()}")


def run(argv, timeout=60):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False,
                          cwd=PROGRAMS)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)


@contextlib.contextmanager
def outage(cluster, node):
    """The node's proxy and its Redis are killed, the others go on; at the end it has come back."""
    survivors = len(cluster.wait_members()) - 1
    node.proxy.kill()
    node.redis.kill()
    cluster.wait_whole(members=survivors, without=[node.id])
    yield
    node.redis.start()
    node.proxy.start()
    cluster.wait_whole()


# --- clients for Node.js ---


@pytest.mark.parametrize("position", POSITIONS)
def test_ioredis(chain, position):
    run(["node", "ioredis.js", port(chain.at(position))])


@pytest.mark.parametrize("resp", ["2", "3"])
@pytest.mark.parametrize("position", POSITIONS)
def test_node_redis(chain, position, resp):
    other = chain.middle() if position == "head" else chain.head()
    run(["node", "node_redis.js", port(chain.at(position)), resp, port(other)])


@pytest.mark.parametrize("position", POSITIONS)
def test_node_clients_come_back_to_their_proxy(chain, start, position):
    """... with their subscriptions, when it was killed and started again."""
    node = chain.at(position)
    programs = [start(f"reconnect-{library}",
                      ["node", str(PROGRAMS / "reconnect.js"), library, port(node)])
                for library in ("ioredis", "node-redis")]
    for program in programs:
        wait_output(program, "round", 5)
    node.proxy.kill()
    for program in programs:
        wait_output(program, "lost")
    node.proxy.start()
    chain.wait_whole()
    for program in programs:
        before = output(program).splitlines().count("round")
        wait_output(program, "round", before + 5)


# --- BullMQ ---

JOBS = 5000


class JobQueue:
    """A BullMQ queue of numbered jobs with workers at some nodes, and a record of each worker's."""

    def __init__(self, chain, start, nodes, lock_ms=30000):
        self._chain = chain
        self._name = f"queue{time.monotonic_ns()}"
        self._added = 0
        self._records = []
        self.workers = []
        for number, node in enumerate(nodes):
            record = chain.directory / f"{self._name}-{number}"
            record.touch()
            self._records.append(record)
            self.workers.append(start(f"worker-{number}-{node.id}", [
                "node", str(PROGRAMS / "bullmq_worker.js"), port(node), self._name, str(record),
                str(lock_ms)]))
        for worker in self.workers:
            wait_output(worker, "ready")

    def add(self, node, count):
        run(["node", "bullmq_add.js", port(node), self._name, str(self._added), str(count)])
        self._added += count

    def runs(self, worker=None):
        """{number of a job: how often it was run}, by one worker or by all of them."""
        chosen = self._records if worker is None else [self._records[worker]]
        return collections.Counter(int(line) for record in chosen
                                   for line in record.read_text(encoding="ascii").split())

    def wait_run(self, count, timeout=60):
        wait_until(lambda: len(self.runs()) >= count, timeout,
                   lambda: f"{count} jobs run; {len(self.runs())} are: " + self.events(),
                   interval=0.05)

    def events(self):
        return "".join(worker.log_tail() for worker in self.workers)

    def wait_finished(self, timeout=60):
        """Every job has been run, and the queue holds none that waits or runs."""
        self.wait_run(self._added, timeout)
        client = self._chain.head().redis_client()

        def completed():
            return client.zcard(f"bull:{self._name}:completed") == self._added

        wait_until(completed, timeout, lambda: "all jobs completed, of which "
                   f"{client.zcard(f'bull:{self._name}:completed')} are: " + self.events())
        assert set(self.runs()) == set(range(self._added))


def test_bullmq_runs_each_job_once_while_the_middle_is_away(chain, start):
    head, middle, tail = chain.wait_members()
    queue = JobQueue(chain, start, [head, tail, head, tail])
    queue.add(tail, 2000)
    queue.wait_run(300)
    with outage(chain, middle):
        queue.add(head, 2000)
    queue.add(middle, JOBS - 4000)
    queue.wait_finished()
    assert {number: runs for number, runs in queue.runs().items() if runs != 1} == {}
    assert all(queue.runs(worker) for worker in range(4))
    assert "error" not in queue.events() and "stalled" not in queue.events()
    chain.wait_position(chain.nodes)


@pytest.mark.parametrize("position", ["head", "middle"])
def test_bullmq_loses_no_job_when_a_workers_proxy_dies(chain, start, position):
    """A worker that cannot tell the queue that it has run a job makes BullMQ run it again: at least
    once is what it promises. That is so of the jobs under way only: 10 a worker."""
    victim = chain.at(position)
    others = [node for node in chain.wait_members() if node is not victim]
    queue = JobQueue(chain, start, [victim, *others], lock_ms=4000)
    queue.add(others[0], 1000)
    queue.wait_run(200)
    with outage(chain, victim):
        queue.add(others[1], 500)
    queue.add(victim, 500)
    queue.wait_finished()
    again = [number for number, runs in queue.runs().items() if runs != 1]
    assert len(again) <= 10 * (3 if position == "head" else 1)


# --- Celery ---


@pytest.fixture(name="celery")
def celery_worker(chain, start, monkeypatch):
    """(app module, record): a worker with its broker at the head and its results at the tail."""
    head, _, tail = chain.wait_members()
    record = chain.directory / f"celery{time.monotonic_ns()}"
    record.touch()
    environment = {"CATENA_BROKER": f"redis://{head.clients}/1", "CATENA_RECORD": str(record),
                   "CATENA_RESULTS": f"redis://{tail.clients}/2", "PYTHONPATH": str(PROGRAMS)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(PROGRAMS))
    sys.modules.pop("celery_tasks", None)  # of another test, with other addresses
    tasks = importlib.import_module("celery_tasks")
    start("celery", [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker",
                     "--concurrency", "2", "--without-gossip", "--without-mingle"], **environment)
    yield tasks, record
    gc.collect()  # results that are forgotten tell the chain, while it is there
    tasks.app.close()


def test_celery_loses_no_task_while_the_middle_is_away(chain, celery):
    tasks, record = celery
    chords = [chord(tasks.square.s(100 * c + i) for i in range(20))(tasks.total.s())
              for c in range(5)]
    groups = [group(tasks.square.s(1000 + 100 * g + i) for i in range(50)).apply_async()
              for g in range(2)]
    wait_until(lambda: len(record.read_text().split()) > 20, 40, "the worker runs tasks")
    with outage(chain, chain.middle()):
        groups += [group(tasks.square.s(2000 + 100 * g + i) for i in range(50)).apply_async()
                   for g in range(2)]
        chords += [chord(tasks.square.s(3000 + 100 * c + i) for i in range(20))(tasks.total.s())
                   for c in range(5)]
    groups.append(group(tasks.square.s(4000 + i) for i in range(100)).apply_async())
    firsts = [100 * c for c in range(5)] + [3000 + 100 * c for c in range(5)]
    for first, result in zip(firsts, chords):
        assert result.get(timeout=60) == sum(n * n for n in range(first, first + 20))
    for first, result in zip([1000, 1100, 2000, 2100, 4000], groups):
        assert result.get(timeout=60) == [n * n for n in range(first, first + len(result))]
    runs = collections.Counter(map(int, record.read_text().split()))
    assert len(runs) == 500
    assert [number for number, count in runs.items() if count != 1] == []


# --- redis-py ---


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("position", POSITIONS)
def test_redis_py_pipeline(chain, position, transaction):
    client = chain.at(position).redis_client()
    with client.pipeline(transaction=transaction) as pipeline:
        for i in range(500):
            pipeline.incr("n").rpush("list", i)
        pipeline.hget("list", "field")
        answers = pipeline.execute(raise_on_error=False)
    assert answers[:1000:2] == answers[1:1000:2] == list(range(1, 501))
    assert isinstance(answers[1000], redis.ResponseError)

    def increment(pipeline):
        value = int(pipeline.get("n"))
        if value < 503:
            other.incr("n")  # somebody else is faster, until value is 503
        pipeline.multi()
        pipeline.set("n", value + 1)

    other = chain.head().redis_client()
    assert client.transaction(increment, "n") == [True]
    assert other.get("n") == b"504"


class Contenders:
    """One at each node: all take the same lock, and note it when they are not alone."""

    def __init__(self, nodes):
        self._nodes = nodes
        self._stopping = threading.Event()
        self._inside = 0
        self.overlaps = []
        self.taken = collections.Counter()
        self._threads = [threading.Thread(target=self._run, args=(node,)) for node in nodes]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_taken(self, nodes, count=10, timeout=30):
        goals = {node.id: self.taken[node.id] + count for node in nodes}
        wait_until(lambda: all(self.taken[n] >= goal for n, goal in goals.items()), timeout,
                   lambda: f"the lock is taken through {goals}; it was {self.taken}")

    def _run(self, node):
        client = node.redis_client(socket_timeout=5)
        while not self._stopping.is_set():
            # One whose taking or giving back has an unknown outcome frees itself after `timeout`.
            lock = client.lock("lock", timeout=4, sleep=0.005)
            try:
                if lock.acquire(blocking_timeout=5):
                    self._work(node)
                    lock.release()
            except (redis.RedisError, OSError):
                time.sleep(0.02)
        client.close()

    def _work(self, node):
        self._inside += 1
        if self._inside != 1:
            self.overlaps.append((node.id, time.monotonic()))
        time.sleep(0.002)
        self._inside -= 1
        self.taken[node.id] += 1


def test_redis_py_lock_excludes_while_nodes_are_away(chain):
    with Contenders(chain.nodes) as contenders:
        contenders.wait_taken(chain.nodes)
        for position in POSITIONS:
            victim = chain.at(position)
            with outage(chain, victim):
                contenders.wait_taken([node for node in chain.nodes if node is not victim])
            contenders.wait_taken(chain.nodes)
    assert contenders.overlaps == []


def test_redis_py_subscriber_comes_back_to_its_proxy(chain):
    node = chain.tail()
    publisher = chain.head().redis_client()
    subscriber = node.redis_client().pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("channel")
    subscriber.psubscribe("pattern:*")
    sent = itertools.count()

    def hears_both():
        number = next(sent)
        publisher.publish("channel", number)
        publisher.publish("pattern:x", number)
        heard = set()
        try:
            while message := subscriber.get_message(timeout=0.2):
                heard.add((message["channel"], int(message["data"])))
        except redis.ConnectionError:
            pass
        return heard >= {(b"channel", number), (b"pattern:x", number)}

    wait_until(hears_both, 10, "messages through the proxy")
    node.proxy.kill()
    chain.wait_whole(members=2, without=[node.id])
    assert not hears_both()
    node.proxy.start()
    wait_until(hears_both, 20, "messages through the proxy that came back")
    subscriber.close()
    chain.wait_whole()


def test_redis_py_retries_ride_out_the_loss_of_its_proxy(chain):
    """A client that is told to retry notices nothing but the time that passes."""
    node = chain.tail()
    client = node.redis_client(
        retry=Retry(ConstantBackoff(0.1), 100),
        # OSError: this version does not count a refused connection among the first.
        retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError])
    client.set("key", "value")
    node.proxy.kill()
    started = threading.Thread(target=lambda: (chain.wait_whole(2, without=[node.id]),
                                               node.proxy.start()))
    started.start()
    assert client.get("key") == b"value"
    assert client.set("key", "newer")
    started.join()
    assert client.get("key") == b"newer"
    chain.wait_whole()


def test_redis_py_asyncio(chain):
    async def several(node):
        host, number = node.clients.split(":")
        client = redis.asyncio.Redis(host=host, port=int(number))
        await asyncio.gather(*(client.incr("async") for _ in range(100)))
        async with client.pipeline(transaction=True) as pipeline:
            assert await pipeline.set(node.id, 1).incr(node.id).execute() == [True, 2]
        async with client.lock("async lock", timeout=5):
            value = int(await client.get("unlocked") or 0)
            await client.set("unlocked", value + 1)
        async with client.pubsub() as subscriber:
            await subscriber.subscribe(f"to {node.id}")
            assert (await subscriber.get_message(timeout=10))["type"] == "subscribe"
            await client.publish(f"to {node.id}", "hello")
            assert (await subscriber.get_message(timeout=10))["data"] == b"hello"
        popped = asyncio.create_task(client.blpop("queue " + node.id, 10))
        await client.rpush("queue " + node.id, "job")
        assert (await popped)[1] == b"job"
        assert len([key async for key in client.scan_iter("*", count=1)]) >= 3
        await client.close()

    async def all_nodes():
        await asyncio.gather(*(several(node) for node in chain.nodes))

    asyncio.run(all_nodes())
    client = chain.head().redis_client()
    assert client.get("async") == b"300" and client.get("unlocked") == b"3"
