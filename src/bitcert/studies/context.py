"""What a study is run with: size, seed, data, progress, and a place where finished pieces survive a killed process."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bitcert.canonical import FormatProblem, decode, encode, parse
from bitcert.certificates.certification import versions
from bitcert.data import Role, Sample, load_sample
from bitcert.errors import DecodeError
from bitcert.locking import replacing
from bitcert.run import Run
from bitcert.search.prior import multiplies_bfloat16
from bitcert.stability.planning import drawn
from bitcert.studies.result import Size
from bitcert.studies.training import Recipe, TrainedNetwork, train

Value = TypeVar("Value")
Choice = TypeVar("Choice")


@dataclass(eq=False)
class Context:
    """What a study is run with.

    Args:
        study: its name.
        size: how much is carried out.
        pieces: folder of finished pieces; the caller deletes it once the result is written.
        networks: folder of trained networks, which all studies share.
        run: seed, device and progress.
    """

    study: str
    size: Size
    pieces: Path
    networks: Path
    run: Run
    _made: set[Path] = field(default_factory=set, init=False)

    @property
    def seed(self) -> int:
        """Of every named stream."""
        return self.run.seed

    def choose(self, quick: Choice, default: Choice, full: Choice) -> Choice:
        """The one for this size."""
        return {Size.QUICK: quick, Size.DEFAULT: default, Size.FULL: full}[self.size]

    @property
    def bfloat16(self) -> bool:
        """Whether networks are trained in bfloat16: beyond the quick size, where the machine has a unit for it."""
        return self.choose(False, True, True) and (self.run.device != "cpu" or multiplies_bfloat16())

    def sample(self, name: str, count: int | None = None, *, role: Role = Role.TRAIN, split: str = "train") -> Sample:
        """A built-in data set, or ``count`` of its examples drawn with the seed.

        Raises:
            InputError: it is not on this machine.
        """
        whole = load_sample(name, role, split=split)
        return whole if count is None else drawn(whole, count, self.seed, f"study/{split}").with_role(role)

    def piece(
        self, name: str, kind: type[Value], make: Callable[[], Value], *parts: object, shared: bool = False
    ) -> Value:
        """``make()``, or what it returned before the process was killed.

        The value passes through JSON either way, so that an interrupted study returns what an uninterrupted one does.

        Args:
            name: of the piece within its study.
            kind: a dataclass (or tuple, mapping, number) that :mod:`bitcert.canonical` can store.
            make: makes the value.
            parts: what it depends on besides study, size, seed and versions; JSON values.
            shared: whether other studies use it too; it is then kept beside the networks, and stays there.

        Raises:
            OSError: when the disk is full or fails; earlier pieces are then still there.
            ValueError: the study has two pieces that nothing tells apart: the second would be the first's value.
        """
        path = self.place(name, *parts, shared=shared)
        if not shared and path in self._made:
            raise ValueError(
                f"expected one piece of {name!r} and these parts in {self.study}, got two; name them apart"
            )
        self._made.add(path)
        with suppress(OSError, UnicodeDecodeError, DecodeError, FormatProblem):
            # What cannot be read is as if it were not there.
            return decode(kind, parse(path.read_text(encoding="utf-8"), "a piece"))
        text = json.dumps(encode(make()), sort_keys=True, allow_nan=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return decode(kind, parse(text, "a piece"))

    def place(self, name: str, *parts: object, shared: bool = False, ending: str = "json") -> Path:
        """The file of a piece: another one for another size, seed or version, and for other ``parts``."""
        whose, folder = ("", self.networks) if shared else (self.study, self.pieces)
        identity = _hashed([whose, self.size.value, self.seed, versions(), name, *parts])
        return folder / f"{identity[:24]}.{ending}"

    def train(self, recipe: Recipe, sample: Sample, test: Sample | None = None) -> TrainedNetwork:
        """The network of this recipe, trained now or before; an interrupted training goes on after its last epoch."""
        return train(recipe, sample, test, self.networks, self.run)


def _hashed(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
