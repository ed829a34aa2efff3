"""The options of ``bitcert certify``, what follows from them, and which combinations make no sense."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from bitcert.cli.executors import ExecutorOptions
from bitcert.cli.options import ClassesOption, RunOptions
from bitcert.codecs.base import Rest
from bitcert.data import Sample
from bitcert.errors import InputError
from bitcert.network import is_model_file
from bitcert.proof.budget import check_delta
from bitcert.search import Effort
from bitcert.search.contenders import Option as Choice
from bitcert.search.contenders import usual_family
from bitcert.search.forecast import best_split

DEFAULT_BUDGET = {"head": 240.0, "table": 60.0, "network": 600.0}


AUTO_SPLIT = -1.0
"""Stands for ``--prior-split auto`` until the number of examples is known."""


def parse_split(text: str) -> float:
    """The fraction of ``--prior-split``, or :data:`AUTO_SPLIT`."""
    with suppress(ValueError):
        if text == "auto" or 0 < float(text) < 1:
            return AUTO_SPLIT if text == "auto" else float(text)
    raise ValueError(f"expected a fraction strictly between 0 and 1, or auto, got {text[:50]!r}")


class Family(StrEnum):
    """The built-in families, trained for the certificate."""

    head = "head"
    tree = "tree"
    votes = "votes"
    table = "table"


@dataclass(frozen=True, kw_only=True)
class CertifyOptions(RunOptions, ExecutorOptions):
    """The options of the verb."""

    model: Annotated[
        str | None, Argument(help="FILE.pt2, FILE.onnx or package.module:factory; without it a network is trained.")
    ] = None
    holdout: Annotated[str | None, Option(help="Held-out labels, for comparison only: name or path.")] = None
    delta: Annotated[float, Option(help="Probability with which the bound may fail.")] = 0.05
    effort: Annotated[
        Effort | None, Option(help="Search for the best certificate: 2, 15 or 60 minutes on two cores.")
    ] = None
    unlabelled: Annotated[
        str | None,
        Option(help="Unlabelled data (test part of a name, or a path): certify the original network itself."),
    ] = None
    prior_split: Annotated[
        float | None,
        Option(
            help="Fraction of the data that trains a helper network, or auto; the rest is counted.",
            metavar="FRACTION",
            parser=parse_split,
        ),
    ] = None
    prior_seed: Annotated[int | None, Option(help="Seed of --prior-split, chosen beforehand; default 0.")] = None
    loss: Annotated[
        list[str] | None,
        Option(help="Certify this too: top-K, brier, margin:G, package.module:function; commas, may repeat."),
    ] = None
    out: Annotated[Path, Option(help="Folder for message, certificate and report.")] = Path("out")
    budget: Annotated[float | None, Option(help="Seconds of training, at most; instead of --effort's.")] = None
    family: Annotated[Family | None, Option(help="Built-in network to train.")] = None
    fine_tune: Annotated[bool | None, Option(help="Fine-tune while quantising (default: yes).")] = None
    codec: Annotated[str | None, Option(help="Compress a given network with this codec, or auto: all.")] = None
    option: Annotated[list[str] | None, Option(help="Option of the codec, as NAME=VALUE; may repeat.")] = None
    layers: Annotated[str, Option(help="Weights that the codec compresses, with commas; else all.")] = ""
    rest: Annotated[Rest | None, Option(help="What becomes of all other weights.")] = None
    helper: Annotated[
        str | None, Option(help="Public weights fixed before the data: FILE.pt2, or as --weights for the model.")
    ] = None
    classes: Annotated[int | None, ClassesOption(help="Number of classes; read off the labels, it costs bits.")] = None
    profile: Annotated[Path | None, Option(help="profile.json of bitcert measure, shown in the report.")] = None
    bounds: Annotated[Path | None, Option(help="bounds.json of bitcert bounds, shown in the report.")] = None
    look: Annotated[
        int | None,
        Option(help="This is at least the K-th certificate on the unlabelled data, counted elsewhere too."),
    ] = None
    json_output: Annotated[bool, Option("--json", help="Print the certificate as JSON only.")] = False

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the further losses."""
        return tuple(name.strip() for text in self.loss or () for name in text.split(","))

    @property
    def searches(self) -> bool:
        """Whether all contenders are tried, rather than the one way to compress that the options name."""
        special = self.unlabelled is not None or self.prior_split is not None
        named = self.model is not None or self.helper is not None
        return self.effort is not None or special or (named and self.codec is None)

    def seconds(self, sample: Sample) -> float:
        """The time budget."""
        if self.budget is not None:
            return self.budget
        plain = self.unlabelled is None and self.prior_split is None and self.helper is None
        if self.effort is None and self.model is not None and plain:
            return DEFAULT_BUDGET["network"]
        if self.searches:
            return (self.effort or Effort.quick).seconds
        return DEFAULT_BUDGET["table" if self.trained_family(sample) in ("tree", "votes", "table") else "head"]

    def split_fraction(self, sample: Sample) -> float | None:
        """Of the prior part; with ``auto`` it follows from the number of examples."""
        return best_split(len(sample), self.delta) if self.prior_split == AUTO_SPLIT else self.prior_split

    @property
    def option_folders(self) -> dict[str, Path]:
        """Where each of several options gets its certificate; empty where there is one thing to certify."""
        one_thing = self.unlabelled is not None or self.prior_split is not None or self.helper is not None
        if self.model is None or one_thing or self.codec is not None:
            return {}
        return {each: self.out.with_name(f"{self.out.name}-{each.name.lower().replace('_', '-')}") for each in Choice}

    def trained_family(self, sample: Sample) -> str:
        """The built-in family that is trained where no network is given."""
        return usual_family(sample.input_shape) if self.family is None else self.family.value

    @property
    def trains_prior_model(self) -> bool:
        """Whether the model named is an architecture for the prior part, and not a trained network."""
        return self.prior_split is not None and self.unlabelled is None

    @property
    def names_helper_only(self) -> bool:
        """Whether the model named is the structure that the helper's weights belong to, and not a trained network."""
        factory = self.model is not None and not is_model_file(self.model)
        bare = self.helper is not None and not is_model_file(self.helper)
        return factory and bare and self.codec is None and self.weights is None and self.unlabelled is None

    def check(self) -> None:
        """Refuse combinations that make no sense, each in one sentence.

        Raises:
            InputError: the first that is found.
        """
        check_delta(self.delta, "--delta")
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise InputError("a positive number of seconds for --budget", str(self.budget), "give e.g. 60")
        for wrong, expected, got, do in (*self._lonely(), *self._wrong_priors()):
            if wrong:
                raise InputError(expected, got, do)

    def _lonely(self) -> list[_Refusal]:
        """Options that need another one, or exclude it."""
        no_model, no_codec = self.model is None, self.codec is None
        helper_alone = self.helper is not None and is_model_file(self.helper) and no_codec
        tuned, name_first = (
            self.fine_tune is not None,
            "name it first, as FILE.pt2, FILE.onnx or package.module:factory",
        )
        detailed = bool(self.option or self.layers or self.rest)
        given, original = not no_model and not self.trains_prior_model, "the original network that is certified"
        factory_first = "name it first, as package.module:factory"
        look_first = "name the unlabelled examples that were looked at before"
        return [
            (no_model and self.weights is not None, "a model for --weights", "weights alone", factory_first),
            (no_codec and detailed, "a --codec for --option, --layers and --rest", "none", "name one, or auto"),
            (no_model and not no_codec, "a model for --codec", "none", name_first),
            (
                no_model and self.helper is not None and not helper_alone,
                "a model for --helper, or a .pt2 or .onnx file",
                str(self.helper),
                name_first,
            ),
            (
                not no_codec and tuned,
                "no --fine-tune or --no-fine-tune with --codec",
                "both",
                "use --codec tuned to fine-tune",
            ),
            (
                given and self.family is not None,
                "no --family for a given network",
                f"--family {self.family}",
                "leave out one of the two",
            ),
            (self.look is not None and self.unlabelled is None, "--unlabelled for --look", "none", look_first),
            (no_model and self.unlabelled is not None, f"a model for --unlabelled: {original}", "none", name_first),
        ]

    def _wrong_priors(self) -> list[_Refusal]:
        """What does not go with a prior part."""
        split, no_codec = self.prior_split, self.codec is None
        if split is None:
            lonely = self.prior_seed is not None
            return [(lonely, "--prior-split for --prior-seed", "none", "give e.g. --prior-split 0.5")]
        only = "leave them out: of the model only the architecture is trained, on the prior part; or add --unlabelled"
        one_helper = "leave out one: a message has one helper network"
        given = "leave one out: codecs compress a network that is given"
        weights, trains = self.weights is not None, self.trains_prior_model
        return [
            (self.helper is not None, "--helper or --prior-split", "both", one_helper),
            (trains and weights, "no --weights with --prior-split", "some", only),
            (trains and not no_codec, "no --codec with --prior-split", f"--codec {self.codec}", given),
        ]


_Refusal = tuple[bool, str, str, str]
"""Whether it applies; what was expected, what came, what to do."""
