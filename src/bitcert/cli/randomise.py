"""``bitcert randomise``: a PAC-Bayes certificate of the classifier that draws its weights anew for every answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from bitcert.canonical import encode_text
from bitcert.cli.common import checkpoint_beside, note, progress_bar
from bitcert.cli.options import CodecOptions
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError
from bitcert.folder import RANDOMISE_FILES, write_output
from bitcert.network import estimate_plan
from bitcert.report.text import percent, percent_up, vacuous_word
from bitcert.run import Run
from bitcert.search.randomised import RandomisedCertificate, RandomisedSettings, certify_randomised, declared_hash
from bitcert.stability import network_hash

RANDOMISED_FILE = "randomised.json"
FORMAT = "bitcert-randomised-1"


@dataclass(frozen=True, kw_only=True)
class RandomiseOptions(CodecOptions):
    """The options of the verb."""

    helper: Annotated[str | None, Option(help="Public weights that the prior is centred on, as --weights.")] = None
    budget: Annotated[float, Option(help="Seconds of training.")] = 300.0
    steps: Annotated[int | None, Option(help="Steps of training, in place of --budget.")] = None
    rate: Annotated[float, Option(help="Learning rate.")] = 1e-3
    draws: Annotated[int, Option(help="Draws of weights that estimate the training error.")] = 2000
    delta: Annotated[float, Option(help="Probability with which the bound may fail.")] = 0.05
    draws_delta: Annotated[float, Option(help="Share of it for the draws.")] = 0.01
    out: Annotated[Path, Option(help="Folder for the result.")] = Path("randomised")
    json_output: Annotated[bool, Option("--json", help="Print the result as JSON only.")] = False

    def settings(self) -> RandomisedSettings:
        """How it is trained and certified.

        Raises:
            InputError: an option that cannot be.
        """
        if not 0 < self.budget < float("inf"):
            raise InputError("a positive number of seconds for --budget", str(self.budget), "give e.g. 300")
        base = Base.RANDOM if self.helper is None else Base.FILE
        return RandomisedSettings(
            self.delta, self.draws_delta, self.draws, rate=self.rate, num_steps=self.steps, base=base
        )


def randomise_network(options: RandomiseOptions) -> None:
    """Certify a classifier that draws its weights anew for every answer (PAC-Bayes); not the network itself."""
    settings = options.settings()
    options.check_output(RANDOMISE_FILES)
    with progress_bar() as progress:
        sample, network, helper = options.load(progress)
        options.note_weights("training starts from the weights that the factory itself sets")
        time = f"{options.budget:g} s" if options.steps is None else f"{options.steps:,} steps"
        draws = estimate_plan(network, settings.draws * min(settings.part, len(sample)), settings.part)
        more = f"at least {max(1.0, draws.estimate_seconds()):.0f} s more on two idle cores"
        note(f"Plan: {len(sample):,} samples, {time} of training; then {options.draws:,} draws of weights, {more}.")
        note(f"Hash of what must be fixed beforehand: {declared_hash(helper, settings, options.seed)}.")
        run = Run(options.seed, options.budget, options.delta, progress=progress)
        parts = [sample.content_hash, helper.content_hash, network_hash(network), options.seed, repr(settings)]
        run.checkpoint = checkpoint_beside(options.out, parts)
        found = certify_randomised(network, sample, settings, helper=helper, run=run)
        text = encode_text(found, {"format": FORMAT})
        write_output(options.out, {RANDOMISED_FILE: text.encode()}, RANDOMISE_FILES)
    run.checkpoint.remove()
    if options.json_output:
        print(text, end="")
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(found):
        console.print(line, markup=False)
    console.print(f"Results: {options.out / RANDOMISED_FILE}", markup=False)


def _lines(found: RandomisedCertificate) -> tuple[str, ...]:
    sure = found.delta - found.draws_delta
    return (
        f"Certified: a {found.label}.",
        f"Its error on new data is at most {percent_up(found.bound)}{vacuous_word(found.bound)}, with probability "
        f"{1 - found.delta:g} over the sample and the draws.",
        f"It rests on {percent(found.mean_loss)} errors over {found.draws:,} draws of weights on {found.part:,} of "
        f"{found.num_samples:,} examples each, hence at most {percent_up(found.loss_limit)} training error "
        f"(delta {found.draws_delta:g}), and on KL(Q||P) = {found.kl_nats:,.0f} nats (delta {sure:g}).",
        "It holds if:",
        *(f"  - {condition}" for condition in found.conditions),
        f"Hash of what must be fixed beforehand: {found.declared_hash}.",
        "The network with the mean weights has no bound by this. For a deterministic classifier: bitcert certify.",
    )
