"""Named random streams: what seeds them, and that purposes do not meet."""

import hashlib

import numpy as np
import pytest

from bitcert.random import stream, torch_stream


@pytest.mark.parametrize(("seed", "purpose"), [(0, "order"), (7, "order"), (0, "")])
def test_a_stream_is_seeded_by_the_hash_of_seed_and_purpose(seed, purpose):
    key = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16], "big")
    same = np.random.Philox(key=key).random_raw(4)
    assert np.array_equal(stream(seed, purpose).bit_generator.random_raw(4), same)
    assert torch_stream(seed, purpose).initial_seed() == key >> 65, "63 bits, which torch takes whatever the sign"


def test_seed_and_purpose_both_count():
    words = [stream(seed, purpose).bit_generator.random_raw() for seed in (0, 1) for purpose in ("a", "b")]
    assert len(set(words)) == 4
