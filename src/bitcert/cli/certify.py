"""``bitcert certify``: the options. What is done with them is in :mod:`bitcert.cli.certifying`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitcert.cli.certify_options import Family, Options
from bitcert.cli.certifying import certify_options
from bitcert.cli.common import Device
from bitcert.codecs.base import Rest
from bitcert.search import Effort


def certify_command(
    model: Annotated[
        str | None, typer.Argument(help="FILE.pt2 or package.module:factory; without it a network is trained.")
    ] = None,
    data: Annotated[str, typer.Option(help="Training data: a built-in name or a path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory: .safetensors or state dict.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Held-out labels, for comparison only: name or path.")] = None,
    delta: Annotated[float, typer.Option(help="Probability with which the bound may fail.")] = 0.05,
    effort: Annotated[
        Effort | None, typer.Option(help="Search for the best certificate: 2, 15 or 60 minutes on two cores.")
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(help="Unlabelled data (test part of a name, or a path): certify the original network itself."),
    ] = None,
    prior_split: Annotated[
        float | None, typer.Option(help="Fraction of the data that trains a helper network; the rest is counted.")
    ] = None,
    prior_seed: Annotated[int | None, typer.Option(help="Seed of --prior-split, chosen beforehand; default 0.")] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(help="Certify this too: top-K, brier, margin:G, package.module:function; commas, may repeat."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for message, certificate and report.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Seed of the named random streams.")] = 0,
    budget: Annotated[float | None, typer.Option(help="Seconds of training, at most; instead of --effort's.")] = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
    family: Annotated[Family | None, typer.Option(help="Built-in network to train.")] = None,
    fine_tune: Annotated[bool | None, typer.Option(help="Fine-tune while quantising (default: yes).")] = None,
    codec: Annotated[str | None, typer.Option(help="Compress a given network with this codec, or auto: all.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Option of the codec, as NAME=VALUE; may repeat.")] = None,
    layers: Annotated[str, typer.Option(help="Weights that the codec compresses, with commas; else all.")] = "",
    rest: Annotated[Rest | None, typer.Option(help="What becomes of all other weights.")] = None,
    helper: Annotated[
        str | None, typer.Option(help="Public weights fixed before the data: FILE.pt2, or as --weights for the model.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes; read off the labels, it costs bits.")] = None,
    download: Annotated[bool, typer.Option(help="Download built-in data that are not found.")] = False,
    profile: Annotated[Path | None, typer.Option(help="profile.json of bitcert measure, shown in the report.")] = None,
    bounds: Annotated[Path | None, typer.Option(help="bounds.json of bitcert bounds, shown in the report.")] = None,
    look: Annotated[
        int | None,
        typer.Option(help="This is at least the K-th certificate on the unlabelled data, counted elsewhere too."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON only.")] = False,
) -> None:
    """Compress a network and certify how often it, or the original one, will be wrong on new data."""
    certify_options(
        Options(
            model=model,
            data=data,
            weights=weights,
            holdout=holdout,
            delta=delta,
            effort=effort,
            unlabelled=unlabelled,
            prior_split=prior_split,
            prior_seed=prior_seed,
            losses=tuple(name.strip() for text in loss or () for name in text.split(",")),
            out=out,
            seed=seed,
            budget=budget,
            device=device,
            family=family,
            fine_tune=fine_tune,
            codec=codec,
            option=tuple(option or ()),
            layers=layers,
            rest=rest,
            helper=helper,
            scale=scale,
            mean=mean,
            std=std,
            classes=classes,
            download=download,
            profile=profile,
            bounds=bounds,
            look=look,
            json_output=json_output,
        )
    )
