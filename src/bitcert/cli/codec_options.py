"""What the verbs that take ``--codec`` or ``--helper`` share: option strings, the codecs they mean, public weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from bitcert.cli.common import LoadedNetwork, load_network
from bitcert.codecs.base import Codec, Rest
from bitcert.codecs.registry import CODECS, codec_from, find_codec
from bitcert.data import Sample
from bitcert.decoder import HelperWeights, Preprocessing
from bitcert.errors import InputError
from bitcert.network import Network, capture, load_model

AUTO = "auto"


def parse_options(pairs: Sequence[str], layers: str = "", rest: Rest | None = None) -> dict[str, str]:
    """``["rank=10"]`` as ``{"rank": "10"}``, with ``--layers`` and ``--rest`` as options of the same names.

    Raises:
        InputError: a pair without ``=``, or an option given twice.
    """
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError("options as --option NAME=VALUE", repr(pair[:100]), "write e.g. --option rank=10")
        if name.strip() in options:
            raise InputError("every option once", f"{name.strip()} twice", "leave one out")
        options[name.strip()] = value.strip()
    for name, value in (("layers", layers), ("rest", "" if rest is None else rest.value)):
        if value and name in options:
            raise InputError("every option once", f"--{name} and --option {name}", "leave one out")
        if value:
            options[name] = value
    return options


def chosen_codecs(name: str, options: dict[str, str]) -> tuple[Codec, ...]:
    """The codecs that ``--codec NAME`` means: with options that one, without the usual strengths of it.

    ``auto`` means every codec at its usual strengths.

    Raises:
        InputError: an unknown codec or option, or options for ``auto``.
    """
    if name == AUTO:
        if options:
            raise InputError("no options with --codec auto", ", ".join(options), "name one codec")
        return tuple(codec for kind in CODECS.values() for codec in kind.strengths())
    if options:
        return (codec_from(name, options),)
    return find_codec(name).strengths() or (codec_from(name),)


def prior_model(spec: str, load: Callable[[], LoadedNetwork]) -> nn.Module | Network:
    """Whose architecture is trained on a prior part: the module where there is one, else the captured network.

    Raises:
        InputError: neither.
    """
    module = None if spec.endswith(".pt2") else load_model(spec).model
    return module if isinstance(module, nn.Module) else load().captured()


def load_helper_network(model: str | None, helper: str, sample: Sample, preprocessing: Preprocessing) -> Network:
    """A public network that messages may refer to, for these inputs; it may be one for other classes.

    Args:
        model: the factory that ``helper`` holds the weights of; not needed for a ``.pt2`` file.
        helper: a ``.pt2`` file, or weights for the factory.
        sample: the training sample, for its shape.
        preprocessing: of the certificate.

    Raises:
        InputError: it cannot be read.
        CaptureError: its layers cannot be seen, or it is not for these inputs.
    """
    if helper.endswith(".pt2"):
        loaded = load_model(helper)
    else:
        if model is None or model.endswith(".pt2"):
            got, do = repr(helper), "name a .pt2 file, or the model as package.module:factory"
            raise InputError("--helper weights of a factory that is named", got, do)
        loaded = load_model(model, helper)
    return capture(loaded.model, preprocessing(sample.inputs[:2]))


def load_helper_weights(
    spec: str, weights: str | None, network: Network, sample: Sample, preprocessing: Preprocessing
) -> HelperWeights | None:
    """Public weights for the same network: a ``.pt2`` file, or weights for the model's factory; ``None`` for none.

    Raises:
        InputError: they cannot be read, or belong to another network.
    """
    if weights is None:
        return None
    named = (weights, None) if weights.endswith(".pt2") else (spec, weights)
    public = load_network(*named, sample, preprocessing).predictor
    if not isinstance(public, Network) or public.architecture.content_hash != network.architecture.content_hash:
        raise InputError("--helper weights of the same network", f"another one in {weights}", "use the same model")
    return HelperWeights.of(network.architecture, public.parameters)
