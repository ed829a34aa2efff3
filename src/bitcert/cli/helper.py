"""``bitcert helper``: what a certificate will take as known beforehand, and its hash, without a look at any label."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated

from rich.console import Console
from typer import Argument, Option

from bitcert.cli.common import load_for_inputs, load_helper_network, prior_model
from bitcert.cli.options import ClassesOption, InputOptions, parse_sizes
from bitcert.data import Sample, peek, peek_shape
from bitcert.decoder import Helper
from bitcert.decoder.description import helper_contents, helper_ledger
from bitcert.errors import InputError
from bitcert.search.request import CertifyRequest, commitment_of, declared_helpers


@dataclass(frozen=True, kw_only=True)
class HelperOptions(InputOptions):
    """The options of the verb."""

    model: Annotated[
        str | None,
        Argument(help="FILE.pt2, FILE.onnx or package.module:factory, as for certify; its weights do not matter."),
    ] = None
    data: Annotated[str | None, Option(help="The data: a built-in name, an .npz or a table; no label is read.")] = None
    shape: Annotated[str, Option(help="Instead of --data: sizes of one input, e.g. 3,32,32.")] = ""
    floats: Annotated[bool, Option(help="With --shape: inputs are float32, not bytes.")] = False
    helper: Annotated[str | None, Option(help="Public weights, as for certify.")] = None
    prior_split: Annotated[float | None, Option(help="As for certify.")] = None
    prior_seed: Annotated[int, Option(help="As for certify.")] = 0
    original: Annotated[bool, Option(help="The original network will be certified: certify --unlabelled.")] = False
    classes: Annotated[int | None, ClassesOption(help="Number of classes, if you will state it for certify.")] = None
    only_hash: Annotated[bool, Option("--hash", help="Print the hash alone.")] = False
    json_output: Annotated[bool, Option("--json", help="Print what is committed to as JSON.")] = False

    def peek(self) -> Sample:
        """The data without their labels, or only the shape of an input.

        Raises:
            InputError: neither of the two, or both.
        """
        if (self.data is None) == (not self.shape):
            raise InputError("--data or --shape", "both" if self.shape else "neither", "give one of them")
        if self.data is not None:
            return peek(self.data, self.classes, self.declared())
        if self.declared() is not None:
            raise InputError("--data for --label, --schema or --class-names", "--shape", "name the table's file")
        return peek_shape(parse_sizes(self.shape), self.floats, self.classes)

    def request(self) -> CertifyRequest:
        """What ``certify`` will be asked for with the same options, as far as it is fixed beforehand."""
        sample, model, fraction = self.peek(), self.model, self.prior_split
        preprocessing = self.preprocessing(sample)
        if fraction is not None and model is None and sample.classes_inferred:
            expected = "a built-in network for the prior part, whose width is the number of classes"
            do = "state the number of classes with --classes, and for certify too"
            raise InputError(expected, "no number", do)
        public = None if self.helper is None else load_helper_network(model, self.helper, sample, preprocessing)
        loaded = None if model is None else load_for_inputs(model, None, sample, preprocessing)
        trains = model is not None and fraction is not None
        return CertifyRequest(
            sample,
            None if loaded is None else loaded.predictor,
            preprocessing=preprocessing,
            helper_network=public,
            # stands for the examples that certify will get: only that there are some matters here
            unlabelled=sample if trains and self.original else None,
            prior_fraction=fraction,
            prior_seed=self.prior_seed,
            prior_model=prior_model(model, lambda: loaded) if trains else None,
        )


def _with_outputs(helper: Helper) -> Helper:
    """The helper with as many classes as its network has outputs, which is what the labels will have to say."""
    if helper.predictor is None or helper.classes_inferred:
        return helper
    return replace(helper, num_classes=helper.predictor.num_outputs)


def print_commitment(options: HelperOptions) -> None:
    """Print the hash that commits to a helper; publish it before the data are opened. No label is read."""
    request = options.request()
    declared = tuple({each.content_hash: _with_outputs(each) for each in declared_helpers(request)}.values())
    commitment = commitment_of(request)
    split = commitment.split
    if options.only_hash:
        print(commitment.hash)
        return
    bits = [helper_ledger(each, split if each.weights is not None else None).total_bits for each in declared]
    if options.json_output:
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
