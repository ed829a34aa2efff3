"""Shards on a real Ray cluster on the loopback interface, one for the module."""

import pytest

from bitcert.errors import InputError
from bitcert.ray_cluster import RayCluster, run_shard
from bitcert.shards import executing_on, in_shards
from tests.tools.passes import count_everything, killed_once

pytest.importorskip("ray", reason="Ray is not installed: pip install 'bitcert[ray]'")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with executing_on(found := RayCluster()):
        yield found


def test_counts_on_ray_are_those_of_this_process(cluster):
    for size, batch in ((7, 3), (40, 9)):
        here = count_everything(size, batch)
        with executing_on(cluster):
            assert count_everything(size, batch) == here


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
