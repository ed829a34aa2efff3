"""Public weights in the helper: a network that was fixed, and hashed, before the training data were seen.

They are what differences are taken from (Arora et al. 2018, improvement (i)) or what layers are left at. Nothing in a
file shows when it was made: the certificate states the hash and says that the origin is assumed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bitcert.errors import DecodeError, InputError
from bitcert.network.architecture import Architecture

HELPER_FILE = "helper.safetensors"
MAX_HELPER_BYTES = 1 << 29


@dataclass(frozen=True, eq=False)
class HelperWeights:
    """Float32 tensors by name, for every tensor of an architecture."""

    values: Mapping[str, NDArray[np.float32]]

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 of names, shapes and little-endian values, hexadecimal."""
        digest = hashlib.sha256()
        for name, value in sorted(self.values.items()):
            digest.update(f"{name}{list(value.shape)}".encode())
            digest.update(np.ascontiguousarray(value, dtype="<f4").tobytes())
        return digest.hexdigest()

    @classmethod
    def of(cls, architecture: Architecture, values: Mapping[str, torch.Tensor]) -> HelperWeights:
        """The tensors of a network, e.g. ``capture(untrained, example).parameters``.

        Raises:
            InputError: a tensor is missing, has another shape or is not finite.
        """
        tensors = {}
        for spec in architecture.parameters:
            value = values.get(spec.name)
            if value is None or tuple(value.shape) != spec.shape:
                got = "none" if value is None else f"shape {list(value.shape)}"
                do = "use weights of the same network"
                raise InputError(f"helper weights with {spec.name!r} of shape {list(spec.shape)}", got, do)
            array = value.detach().cpu().float().contiguous().numpy()
            if not np.isfinite(array).all():
                raise InputError(f"finite helper weights in {spec.name!r}", "NaN or infinite ones", "use another file")
            tensors[spec.name] = array
        return cls(tensors)

    def to_bytes(self) -> bytes:
        """A safetensors file."""
        return save({name: np.ascontiguousarray(value) for name, value in sorted(self.values.items())})

    @classmethod
    def from_bytes(cls, content: bytes, architecture: Architecture) -> HelperWeights:
        """Read :meth:`to_bytes` from an untrusted source.

        Raises:
            DecodeError: anything that is not a safetensors file with this network's tensors.
        """
        do = "use the helper file that lies beside the certificate"
        try:
            tensors = load(content)
            return cls.of(architecture, {name: torch.from_numpy(np.array(v)) for name, v in tensors.items()})
        except (SafetensorError, ValueError, TypeError, KeyError, InputError) as error:
            line = (str(error).strip().splitlines() or ["unreadable"])[0][:200]
            raise DecodeError(f"a {HELPER_FILE} with the network's tensors", line, do) from None
