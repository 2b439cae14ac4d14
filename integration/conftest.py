"""What the tests with real processes share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import faults  # noqa: E402
from cluster import Cluster  # noqa: E402
from kinds import on_rocksdb  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "redis_only(why): not for CATENA_BACKEND=rocksdb")


def pytest_collection_modifyitems(items):
    for item in items:
        marker = item.get_closest_marker("redis_only")
        if marker and on_rocksdb():
            item.add_marker(pytest.mark.skip(reason=f"not with RocksDB: {marker.args[0]}"))


@pytest.fixture(scope="module")
def cluster():
    """Three nodes, shared by a file's tests, which leave it whole."""
    with Cluster(nodes=3) as started:
        yield started


@pytest.fixture(name="shared", scope="module")
def shared_cluster():
    """As `cluster`, for tests that count on how long a lease is."""
    with Cluster(nodes=3, settings={"coordinator.lease": "1s"}) as started:
        yield started


@pytest.fixture(name="chain")
def whole_chain(shared):
    """Whole before each test, whatever the one before left."""
    for process in shared.processes():
        process.resume()
        process.start()
    shared.wait_whole()
    return shared


@pytest.fixture(scope="session")
def own_networks():
    if not faults.available():
        pytest.skip("no right to make network namespaces")
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    """A failure shows the ends of the logs of every cluster that is up."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for each in list(Cluster.running):
        report.sections.append((f"cluster in {each.directory}", each.log_tails()))
