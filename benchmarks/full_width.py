"""The studies of the VGG-19 at its full width: ``python benchmarks/full_width.py OUT [--stop-after N]``.

The default size of these studies has a quarter of the width and 5,000 images, ``--full`` the 300 epochs of the papers.
Between them: the full width on all 50,000 images, for as many epochs as two hours of one thread allow. What is
measured, and on how many examples, is as in the default size. Each result is written to ``OUT/<study>.json`` as soon as
it is known; a training that was stopped goes on after its last epoch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

from bitcert.run import Run
from bitcert.studies import STUDIES, Size, arora2018, run_study
from bitcert.studies.context import Context
from bitcert.studies.networks import vgg19
from bitcert.studies.training import Recipe, _Training

NAMES = ("arora2018.fig1", "arora2018.table1", "arora2018.fig2", "notes2019.fig4", "arora2018.fig3left")
EPOCHS, RATE, BATCH, HALVE_EVERY = 7, 0.01, 128, 3
SCALED = (
    "VGG-19 at its full width on all 50,000 images, {epochs} epochs of SGD at rate 0.01, halved every 3 epochs, "
    "without dropout and augmentation; the paper trains for about 300 epochs."
)


def main() -> None:
    """Train once, then carry out one study after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stop-after", type=int, default=EPOCHS, help="Epochs, if two hours are not enough for all.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    plain, sampled = arora2018.vgg_recipe, Context.sample

    def recipe(context: Context) -> Recipe:
        return replace(
            plain(context),
            name="VGG-19 of full width",
            build=partial(vgg19, 1.0, dropout=0.0),
            epochs=EPOCHS,
            rate=RATE,
            halve_every=HALVE_EVERY,
            batch_size=BATCH,
            keep_every=1,
        )

    def whole(context: Context, name: str, count: int | None = None, **options: object) -> object:
        return sampled(context, name, None if count == 5_000 else count, **options)  # type: ignore[arg-type]

    scaled = arora2018.SCALED | {"default": SCALED.format(epochs=arguments.stop_after)}
    enough = property(lambda training: len(training.log) >= arguments.stop_after)
    with (
        mock.patch.object(_Training, "finished", enough),
        mock.patch.object(arora2018, "vgg_recipe", recipe),
        mock.patch.object(Context, "sample", whole),
        mock.patch.dict(arora2018.SCALED, scaled),
    ):
        for name in NAMES:
            run = Run(seed=arguments.seed)
            result = run_study(STUDIES[name], Size.DEFAULT, arguments.out, run)
            arguments.out.mkdir(parents=True, exist_ok=True)
            (arguments.out / f"{name}.json").write_text(result.to_json(), encoding="utf-8")
            print(f"{name}: {result.seconds:,.0f} s", *result.outcome.findings, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
