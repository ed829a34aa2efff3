"""The options of ``bitcert certify`` as one value, what follows from them, and which combinations make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bitcert.cli.common import Device
from bitcert.codecs.base import Rest
from bitcert.errors import InputError
from bitcert.proof.budget import check_delta
from bitcert.search import Effort

DEFAULT_BUDGET = {"built-in": 240.0, "network": 600.0}


class Family(StrEnum):
    """The built-in families, trained for the certificate."""

    head = "head"
    bank = "bank"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command, by their names."""

    model: str | None
    data: str
    weights: str | None
    holdout: str | None
    delta: float
    effort: Effort | None
    unlabelled: str | None
    prior_split: float | None
    prior_seed: int | None
    losses: tuple[str, ...]
    out: Path
    seed: int
    budget: float | None
    device: Device
    family: Family | None
    fine_tune: bool | None
    codec: str | None
    option: tuple[str, ...]
    layers: str
    rest: Rest | None
    helper: str | None
    scale: float | None
    mean: str
    std: str
    classes: int | None
    download: bool
    profile: Path | None
    bounds: Path | None
    look: int | None
    json_output: bool

    @property
    def searches(self) -> bool:
        """Whether all contenders are tried, rather than the one way to compress that the options name."""
        special = self.unlabelled is not None or self.prior_split is not None
        return self.effort is not None or special or (self.helper is not None and self.codec is None)

    @property
    def seconds(self) -> float:
        """The time budget."""
        if self.budget is not None:
            return self.budget
        if self.searches:
            return (self.effort or Effort.quick).seconds
        return DEFAULT_BUDGET["built-in" if self.model is None else "network"]

    @property
    def trains_prior_model(self) -> bool:
        """Whether the model named is an architecture for the prior part, and not a trained network."""
        return self.prior_split is not None and self.unlabelled is None

    @property
    def names_helper_only(self) -> bool:
        """Whether the model named is the structure that the helper's weights belong to, and not a trained network."""
        factory = self.model is not None and not self.model.endswith(".pt2")
        bare = self.helper is not None and not self.helper.endswith(".pt2")
        return factory and bare and self.codec is None and self.weights is None and self.unlabelled is None


def check_options(options: Options) -> None:
    """Refuse combinations that make no sense, each in one sentence.

    Raises:
        InputError: the first that is found.
    """
    check_delta(options.delta, "--delta")
    if options.budget is not None and not 0 < options.budget < float("inf"):
        raise InputError("a positive number of seconds for --budget", str(options.budget), "give e.g. 60")
    model, codec = options.model, options.codec
    helper_alone = options.helper is not None and options.helper.endswith(".pt2") and codec is None
    name_first = "name it first, as FILE.pt2 or package.module:factory"
    if options.weights is not None and model is None:
        raise InputError("a model for --weights", "weights alone", "name it first, as package.module:factory")
    if codec is None and (options.option or options.layers or options.rest):
        raise InputError("a --codec for --option, --layers and --rest", "none", "name one, or auto")
    if codec is not None and model is None:
        raise InputError("a model for --codec", "none", name_first)
    if options.helper is not None and model is None and not helper_alone:
        raise InputError("a model for --helper, or a .pt2 file", options.helper, name_first)
    if codec is not None and options.fine_tune is not None:
        raise InputError("no --fine-tune or --no-fine-tune with --codec", "both", "use --codec tuned to fine-tune")
    if model is not None and options.family is not None and not options.trains_prior_model:
        got = f"--family {options.family.value}"
        raise InputError("no --family for a given network", got, "leave out one of the two")
    if options.look is not None and options.unlabelled is None:
        raise InputError("--unlabelled for --look", "none", "name the unlabelled examples that were looked at before")
    if options.unlabelled is not None and model is None:
        raise InputError("a model for --unlabelled: the original network that is certified", "none", name_first)
    _check_prior(options)


def _check_prior(options: Options) -> None:
    if options.prior_split is None:
        if options.prior_seed is not None:
            raise InputError("--prior-split for --prior-seed", "none", "give e.g. --prior-split 0.5")
        return
    if not 0 < options.prior_split < 1:
        got, do = f"{options.prior_split:g}", "give e.g. 0.5"
        raise InputError("a --prior-split strictly between 0 and 1", got, do)
    if options.helper is not None:
        got, do = "both", "leave out one: a message has one helper network"
        raise InputError("--helper or --prior-split", got, do)
    if options.trains_prior_model and options.weights is not None:
        do = "leave them out: of the model only the architecture is trained, on the prior part; or add --unlabelled"
        raise InputError("no --weights with --prior-split", "some", do)
    if options.trains_prior_model and options.codec is not None:
        got, do = f"--codec {options.codec}", "leave one out: codecs compress a network that is given"
        raise InputError("no --codec with --prior-split", got, do)
