"""Examples drawn at random to measure on."""

import numpy as np

from bitcert import Role, Sample
from bitcert.stability.planning import drawn


def test_the_draw_follows_count_and_seed_and_keeps_the_order_of_the_data():
    sample = Sample(np.arange(40, dtype=np.float32)[:, None], np.arange(40) % 2, 2, Role.TRAIN, "toy")
    part, again, other = drawn(sample, 15, 4), drawn(sample, 15, 4), drawn(sample, 15, 5)
    values = part.inputs[:, 0]
    assert len(set(values.tolist())) == 15
    assert (np.diff(values) > 0).all()
    assert part.content_hash == again.content_hash != other.content_hash
    assert part.role is Role.UNLABELLED
    assert "drawn from 40 with seed 4" in part.name
    assert drawn(sample, 40, 4) is sample
