"""What every compressor shares: its result, its time budget, its checkpoints.

Checkpoints are safetensors files (no pickle) written under a temporary name and renamed, so that a killed run
leaves a whole checkpoint or none, and a rerun goes on from it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bitcert.certify import occam_bound
from bitcert.coding import Ledger
from bitcert.evaluate import Progress
from bitcert.helper import Helper


@dataclass(frozen=True)
class Candidate:
    """One message that was tried: selection among them costs nothing, each is a word of one prefix code.

    ``bound`` is the binomial bound at the search's delta; ``seconds`` the time since the run began.
    """

    name: str
    errors: int
    message_bits: int
    bound: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Compressed:
    """The outcome of a compression: the message, its ledger, the helper it needs, and how it was found."""

    message: bytes
    ledger: Ledger
    helper: Helper
    candidates: tuple[Candidate, ...] = ()


@dataclass
class Checkpoint:
    """A file of tensors and JSON values that survives a killed process.

    Args:
        path: the safetensors file.
        identity: hash of everything the run depends on; a file of another identity is ignored.
    """

    path: Path
    identity: str

    def save(self, values: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the checkpoint by these JSON-able values and tensors.

        Raises:
            OSError: when the disk is full or fails; the last checkpoint is then still there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"identity": self.identity, "values": json.dumps(dict(values))}
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, partial, metadata)
        except SafetensorError as error:
            partial.unlink(missing_ok=True)
            raise OSError(f"no checkpoint at {partial}: {error}") from error
        os.replace(partial, self.path)

    def load(self) -> tuple[dict[str, object], dict[str, torch.Tensor]] | None:
        """The last saved state, or ``None`` when there is none of this identity that can be read."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("identity") != self.identity:
                    return None
                values = json.loads(metadata["values"])
                return values, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError):
            return None

    def remove(self) -> None:
        """Delete the file, if any."""
        self.path.unlink(missing_ok=True)


def _silent(task: str, fraction: float) -> None:
    del task, fraction


@dataclass
class Run:
    """One compression run: seed, time budget, device, where to report progress and keep checkpoints.

    Args:
        seed: for the named random streams.
        budget_seconds: the search stops after this long and the best message so far is used.
        delta: at which candidates are compared (the certificate's own).
        device: ``"cpu"`` or ``"cuda"``, for training only; errors are counted on the CPU.
        progress: called with the task and the fraction done.
        checkpoint: where to keep the state, or ``None``.
    """

    seed: int = 0
    budget_seconds: float = 300.0
    delta: float = 0.05
    device: str = "cpu"
    progress: Progress = _silent
    checkpoint: Checkpoint | None = None
    candidates: list[Candidate] = field(default_factory=list)
    _started: float = field(default_factory=lambda: time.monotonic())

    @property
    def seconds(self) -> float:
        """Seconds since the run began (earlier, interrupted sittings included)."""
        return time.monotonic() - self._started

    def spent_before(self, seconds: float) -> None:
        """Count the seconds an interrupted run had already used."""
        self._started = time.monotonic() - seconds

    @property
    def fraction(self) -> float:
        """Fraction of the time budget used, at most 1."""
        return min(1.0, self.seconds / self.budget_seconds)

    def consider(self, name: str, errors: int, samples: int, message_bits: int) -> Candidate:
        """Book a candidate message and return it with its bound."""
        bound = occam_bound(errors, samples, message_bits, self.delta).binomial
        candidate = Candidate(name, errors, message_bits, bound, self.seconds)
        self.candidates.append(candidate)
        return candidate
