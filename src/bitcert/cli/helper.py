"""``bitcert helper``: what a certificate will take as known beforehand, and its hash, without a look at any label."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from torch import nn

from bitcert.cli.common import load_for_inputs, parse_sizes, preprocessing_for
from bitcert.cli.options import load_helper_network
from bitcert.data import peek, peek_shape
from bitcert.decoder.description import helper_contents, helper_ledger
from bitcert.errors import InputError
from bitcert.network import Network, OpaqueModel, load_model
from bitcert.search.request import CertifyRequest, commitment_of, declared_helpers


def helper_command(
    model: Annotated[
        str | None,
        typer.Argument(help="FILE.pt2 or package.module:factory, as for certify; its weights do not matter."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The data: a built-in name, or an .npz whose labels are not read.")
    ] = None,
    shape: Annotated[str, typer.Option(help="Instead of --data: sizes of one input, e.g. 3,32,32.")] = "",
    floats: Annotated[bool, typer.Option(help="With --shape: inputs are float32, not bytes.")] = False,
    helper: Annotated[str | None, typer.Option(help="Public weights, as for certify.")] = None,
    prior_split: Annotated[float | None, typer.Option(help="As for certify.")] = None,
    prior_seed: Annotated[int, typer.Option(help="As for certify.")] = 0,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this (8-bit pixels: 255).")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means subtracted after scaling.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations divided by.")] = "",
    classes: Annotated[int | None, typer.Option(help="Number of classes, if you will state it for certify.")] = None,
    only_hash: Annotated[bool, typer.Option("--hash", help="Print the hash alone.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print what is committed to as JSON.")] = False,
) -> None:
    """Print the hash that commits to a helper; publish it before the data are opened. No label is read."""
    if (data is None) == (not shape):
        raise InputError("--data or --shape", "both" if shape else "neither", "give one of them")
    sample = peek_shape(parse_sizes(shape, "--shape"), floats, classes) if data is None else peek(data, classes)
    preprocessing = preprocessing_for(sample, scale, mean, std)
    if prior_split is not None and model is None and sample.classes_inferred:
        do = "state the number of classes with --classes, and for certify too"
        raise InputError("a built-in network for the prior part, whose width is the number of classes", "no number", do)
    public = None if helper is None else load_helper_network(model, helper, sample, preprocessing)
    network = None if model is None else load_for_inputs(model, None, sample, preprocessing).predictor
    request = CertifyRequest(
        sample,
        network,
        preprocessing=preprocessing,
        helper_network=public,
        prior_fraction=prior_split,
        prior_seed=prior_seed,
        prior_model=_prior_model(model, network, prior_split),
    )
    declared = tuple({each.content_hash: each for each in declared_helpers(request)}.values())
    commitment = commitment_of(request)
    split = commitment.split
    if only_hash:
        print(commitment.hash)
        return
    bits = [helper_ledger(each, split if each.weights is not None else None).total_bits for each in declared]
    if json_output:
        print(json.dumps({**commitment.describe(), "problem": dict(commitment.problem), "bits": bits}, indent=1))
        return
    console = Console(highlight=False)
    console.print(f"Commitment {commitment.hash}")
    for each, size in zip(declared, bits, strict=True):
        console.print(f"  {helper_contents(each)}: {size:,} bits to describe", markup=False)
    if split is not None:
        console.print(f"  prior split of fraction {split.fraction:g}, seed {split.seed}; its weights are trained later")
    console.print(
        "Publish it before the data are opened; bitcert verify --commitment HASH compares a certificate with it.",
        soft_wrap=True,
    )


def _prior_model(
    model: str | None, network: Network | OpaqueModel | None, prior_split: float | None
) -> nn.Module | Network | None:
    """Whose architecture is trained on the prior part: as for ``certify``, the module where there is one."""
    if model is None or prior_split is None:
        return None
    module = None if model.endswith(".pt2") else load_model(model).model
    return module if isinstance(module, nn.Module) else network if isinstance(network, Network) else None
