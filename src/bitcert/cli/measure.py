"""``bitcert measure``: noise stability of a network on a sample, as numbers, figures and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from bitcert.cli.common import intermediate_folder, load_initial, note, progress_bar
from bitcert.cli.executors import ExecutorOptions
from bitcert.cli.options import Device, RunOptions, parse_numbers, refuse_both
from bitcert.data import Sample
from bitcert.errors import InputError
from bitcert.folder import MEASURE_FILES, write_output
from bitcert.network import Network
from bitcert.report import stability_files, stability_summary
from bitcert.stability import MeasureSettings, StabilityProfile, Structure, measure, plan_measure
from bitcert.stability.planning import drawn

PROFILE_FILE = "profile.json"
ARRAYS_FILE = "profile.npz"
TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(RunOptions, ExecutorOptions):
    """The options of the verb."""

    data: Annotated[str, Option(help="Data to measure on: a built-in name or a path.")] = "digits"
    samples: Annotated[int | None, Option(help="Examples drawn at random; all of them without it.")] = None
    exact: Annotated[bool, Option("--exact", help="Norms of Jacobians exactly, whatever it takes.")] = False
    tolerance: Annotated[float | None, Option(help=f"Relative error of estimates; default {TOLERANCE}.")] = None
    zeta: Annotated[float, Option(help="Fraction of examples that may be left out as outliers.")] = 0.0
    noise: Annotated[str, Option(help="Relative norms of injected noise, e.g. 0.1,0.2.")] = "0.1"
    noise_at_inputs: Annotated[
        bool, Option("--noise-at-inputs", help="Inject it at each layer's input, as Arora 2018, not at its value.")
    ] = False
    draws: Annotated[int, Option(help="Noise draws of the interlayer smoothness.")] = 3
    projections: Annotated[int | None, Option(help="Numbers kept of each projected layer.")] = None
    quantities: Annotated[str, Option(help="Only these, e.g. margin,layer_cushion.")] = ""
    init: Annotated[str | None, Option(help="Initial weights (of a .pt2: another .pt2), for comparison.")] = None
    random_init: Annotated[bool, Option("--random-init", help="Compare with random initial weights.")] = False
    keep: Annotated[bool, Option("--keep", help="Keep every example's values, in profile.npz.")] = False
    batch_size: Annotated[int | None, Option(help="Examples computed at a time.")] = None
    device: Annotated[Device, Option(help="Where to compute.")] = Device.cpu
    out: Annotated[Path, Option(help="Folder for profile, figures and report.")] = Path("measured")
    json_output: Annotated[bool, Option("--json", help="Print the profile as JSON only.")] = False

    def settings(self) -> MeasureSettings:
        """What is measured, and how.

        Raises:
            InputError: options that cannot be, or exclude each other.
        """
        refuse_both(self.exact and self.tolerance is not None, "--exact", "--tolerance")
        refuse_both(self.init is not None and self.random_init, "--init", "--random-init")
        if self.samples is not None and self.samples < 1:
            do = "leave it out for all of them"
            raise InputError("at least 1 example for --samples", str(self.samples), do)
        return self.settings_of(
            MeasureSettings,
            tolerance=TOLERANCE if self.tolerance is None else self.tolerance,
            noise_levels=parse_numbers(self.noise, "--noise"),
            quantities=tuple(name.strip() for name in self.quantities.split(",")) if self.quantities else None,
        )


def measure_network(options: MeasureOptions) -> None:
    """Measure why a network can be compressed: its noise stability on a sample."""
    settings = options.settings()
    options.check_output(MEASURE_FILES)
    with progress_bar() as progress:
        whole = options.load_sample(progress)
        preprocessing = options.preprocessing(whole)
        network = options.load_network(whole).visible()
        initial = load_initial(options.model, options.init, whole, preprocessing)
        sample = whole if options.samples is None else drawn(whole, options.samples, options.seed)
        options.note_weights("the weights that the factory itself sets are measured")
        twice = initial is not None or options.random_init
        _print_plan(network, sample, settings, len(whole), twice)
        with intermediate_folder(options.out, "shards") as shards:
            profile = measure(
                network,
                sample,
                settings,
                preprocessing=preprocessing,
                init=initial,
                random_init=options.random_init,
                folder=shards,
                progress=progress,
            ).named(options.model)
            progress("drawing", 0.0)
            write_output(options.out, _files(profile), MEASURE_FILES)
    options.show(profile.to_json(), stability_summary(profile), PROFILE_FILE)


def _print_plan(network: Network, sample: Sample, settings: MeasureSettings, whole: int, twice: bool) -> None:
    """Say before a long run what it will take."""
    plan = plan_measure(network, sample, settings)
    structure = Structure.of(network.architecture)
    seconds, flops = (amount * (2 if twice else 1) for amount in (plan.seconds, plan.flops))
    part = f" of {whole:,}, drawn with seed {settings.seed}" if len(sample) < whole else ""
    note(
        f"Plan: {len(sample):,} samples{part}, {len(structure.layers)} weight layers in "
        f"{len(structure.pairs)} connected pairs{', the network and its untrained twin' if twice else ''}, about "
        f"{flops:.2g} operations, {max(seconds, 1):,.0f} s on two cores, and {plan.memory_bytes / 2**20:,.0f} MiB "
        "beside the data."
    )


def _files(profile: StabilityProfile) -> dict[str, bytes]:
    files = {PROFILE_FILE: profile.to_json().encode(), **stability_files(profile)}
    arrays = profile.arrays_npz()
    return files if arrays is None else {**files, ARRAYS_FILE: arrays}
