"""The transforms by number. A number, once released, keeps its meaning; a new transform takes the next."""

from __future__ import annotations

from bitcert.decoder.transforms.base import Transform
from bitcert.decoder.transforms.factors import Factors
from bitcert.decoder.transforms.filter_projection import FilterProjection
from bitcert.decoder.transforms.hadamard import Hadamard
from bitcert.decoder.transforms.heavy_tail import HeavyTail
from bitcert.decoder.transforms.mask import Mask
from bitcert.decoder.transforms.plain import Identity, Nothing
from bitcert.decoder.transforms.separator import Separator, SeparatorProjection
from bitcert.decoder.transforms.signs import Signs
from bitcert.decoder.transforms.sketch import Sketch

EXACT = "exact"
"""Float32 bit patterns, 32 bits a number; handled by the message itself, because nothing is quantised or added."""
MEMBER = "subspace"
"""Part of the vector that the message's subspace section makes."""

TRANSFORMS: dict[int, Transform] = {
    1: Identity(),
    2: Nothing(),
    5: Signs(),
    6: Hadamard(),
    7: FilterProjection(),
    8: Factors(),
    9: Separator(),
    10: SeparatorProjection(),
    11: Sketch(),
    12: Mask(),
    13: HeavyTail(),
}
"""Numbers 3 and 4 are :data:`EXACT` and :data:`MEMBER`."""
SPECIAL = {3: EXACT, 4: MEMBER}

NUMBERS: dict[str, int] = {
    **{transform.name: number for number, transform in TRANSFORMS.items()},
    **{name: number for number, name in SPECIAL.items()},
}
