"""What is trained on a table where nobody says how: a tree or a head, whichever has the better certificate."""

from __future__ import annotations

import numpy as np
import pytest

from bitcert import Role, Run, Sample, certify, compress, decode_message
from bitcert.decoder.head import BankHead
from bitcert.decoder.trees import TreeClassifier
from bitcert.run import Checkpoint
from bitcert.search.compression import plan_memory_bytes
from bitcert.search.contenders import usual_family

pytestmark = pytest.mark.usefixtures("steps")


def boxes() -> Sample:
    """One threshold decides; the columns have unlike units."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 6)) * [1e6, 1e-6, 1, 1, 30, 1] + [0, 0, 100, 0, 1e4, 0]).astype(np.float32)
    return Sample(x, (x[:, 2] > 100.5).astype(np.int64), 2, Role.TRAIN, "boxes")


def directions() -> Sample:
    """A sum of many columns decides, which no small tree can say."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 12)).astype(np.float32)
    return Sample(x, (x.sum(1) > 0).astype(np.int64), 2, Role.TRAIN, "directions")


@pytest.mark.parametrize(("sample", "kind"), [(boxes(), TreeClassifier), (directions(), BankHead)])
def test_the_better_of_tree_and_head_is_what_a_user_gets(sample: Sample, kind: type) -> None:
    result = compress(sample, run=Run(budget_seconds=6.0))
    assert isinstance(decode_message(result.message, result.helper).classifier, kind)
    names = {candidate.name.split(":")[0] for candidate in result.candidates}
    assert {"decision tree"} < names, "both were tried"
    assert certify(result, sample).bound < 0.15


def test_images_get_a_head_and_everything_else_the_best_of_a_table() -> None:
    images = Sample(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1]), 2, Role.TRAIN, "images")
    assert (usual_family(images.input_shape), usual_family(boxes().input_shape)) == ("head", "table")
    assert plan_memory_bytes(directions()) > directions().inputs.nbytes


def test_nothing_is_left_behind_of_a_search_that_ended(tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path / "search.safetensors", "this")
    compress(boxes(), run=Run(budget_seconds=2.0, checkpoint=checkpoint))
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.path.name]
