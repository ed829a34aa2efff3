"""Shards on a real Ray cluster of two nodes, one for the module: the last test takes it apart."""

import os
import signal
import threading

import pytest

from bitcert.errors import InputError
from bitcert.ray_cluster import RayCluster, run_shard
from bitcert.shards import executing_on, in_shards, over_ranges
from tests.tools.passes import PASSES, killed_once

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'bitcert[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402


@pytest.fixture(scope="module")
def machines():
    """A head and another node, one core each, as if on two machines."""
    with pytest.MonkeyPatch.context() as patch:
        # without the agent of its dashboard Ray starts in a fraction of the time
        patch.setattr("ray._private.utils.get_dashboard_dependency_error", lambda: ImportError("left out"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        sizes = {"num_cpus": 1, "object_store_memory": 80 << 20}
        found = None
        try:
            found = Cluster(initialize_head=True, head_node_args={**sizes, "include_dashboard": False})
            found.add_node(**sizes)
        except Exception as error:
            pytest.skip(f"Ray waits half a minute for its own start, which this machine was too busy for: {error}")
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def cluster(machines):
    with executing_on(found := RayCluster(machines.address)):
        yield found


@pytest.mark.parametrize("verb", PASSES)
def test_passes_on_ray_are_those_of_this_process(verb, cluster, small_shards):
    for size, batch in ((1, 5), (7, 3)):
        here = PASSES[verb](size, batch)
        with executing_on(cluster):
            assert PASSES[verb](size, batch) == here


def test_shards_of_a_killed_ray_worker_are_run_again(cluster, tmp_path):
    flag = tmp_path / "killed"
    assert in_shards(killed_once(flag), 12, 2, executor=cluster) == [(start, start + 2) for start in range(0, 12, 2)]
    assert flag.exists()


def test_errors_and_other_versions_are_told_in_one_sentence(cluster):
    def task(start, stop):
        raise InputError("one thing", f"another at {start}", "do this")

    with pytest.raises(InputError, match=r"another at \d; do this"):
        in_shards(task, 4, 2, executor=cluster)
    with pytest.raises(InputError, match=r"bitcert 9\.9 on every worker, got bitcert"):
        run_shard("9.9", task, 0, 1)


def while_losing(lose):
    """Results of a pass of 10 shards, and which of them came, where something is lost after the third."""
    came = []

    def task(start, stop):
        threading.Event().wait(0.3)
        return start

    def keep(shard, part):
        came.append(part)
        if len(came) == 3:
            lose()
        return part

    return over_ranges(task, [(k, k + 1) for k in range(10)], keep), sorted(came)


def test_a_pass_survives_a_lost_node_and_a_lost_head(cluster, machines, monkeypatch):
    monkeypatch.setattr("bitcert.ray_cluster._LOOK_SECONDS", 0.5)
    (other,) = machines.worker_nodes
    for lose in (lambda: machines.remove_node(other, allow_graceful=False), lambda: kill(machines.head_node)):
        assert while_losing(lose) == (list(range(10)), list(range(10)))
    assert not ray.is_initialized()
    assert in_shards(lambda start, stop: os.getpid(), 4, 2, executor=cluster) == [os.getpid()] * 2


def kill(node):
    for name in ("gcs_server", "raylet"):
        for process in node.all_processes[name]:
            os.kill(process.process.pid, signal.SIGKILL)
