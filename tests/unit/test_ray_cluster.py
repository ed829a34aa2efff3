"""Shards on a real Ray cluster of this machine, one for the module."""

import pytest

from bitcert.errors import InputError
from bitcert.ray_cluster import RayCluster, run_shard
from bitcert.shards import executing_on, in_shards
from tests.tools.passes import PASSES, killed_once

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'bitcert[ray]'")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        # without the agent of its dashboard Ray starts in a fraction of the time
        patch.setattr("ray._private.utils.get_dashboard_dependency_error", lambda: ImportError("left out"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
        except Exception as error:
            pytest.skip(f"Ray waits half a minute for its own start, which this machine was too busy for: {error}")
        try:
            with executing_on(found := RayCluster()):
                yield found
        finally:
            ray.shutdown()


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
