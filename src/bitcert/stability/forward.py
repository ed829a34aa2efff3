"""Per-sample measures of one forward pass: layer cushion, activation contraction, margin and norms.

* layer cushion of layer ``i`` (Arora 2018 Def. 4): ``||A^i phi|| / (||A^i||_F ||phi||)``, with ``phi`` the value that
  feeds the layer and ``A^i phi`` without the bias (docs/theory.md section 3.1). ``||A^i||_F`` is the Frobenius norm of
  the matrix or filter as stored, for convolutions too, which is the paper's convention: only a dense layer's cushion is
  at most 1, since a filter acts at several places.
* activation contraction (Arora 2018 Def. 6): ``||x^{i-1}|| / ||phi(x^{i-1})||`` with ``phi(x^{i-1})`` the value that
  feeds layer ``i``, as in the cushions: ``phi`` is everything between two weight layers, pooling included. At least 1
  for ReLU (Zhang 2020 Def. 5.6 prints the inverse: docs/theory.md erratum 2). Where branches meet, see
  :func:`contractions`.
* margin (docs/theory.md section 1): ``f(x)[y] - max_{j != y} f(x)[j]``; ``||f(x)||`` and ``||x||``.

A ratio 0/0 (a dead input) is NaN; where ``phi`` maps a value other than 0 to 0 the contraction is infinite.
These are values of the examples at hand; they do NOT bound anything for other examples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitcert.network.nodes import INPUT
from bitcert.stability.layers import MeasuredLayer, needed_nodes
from bitcert.stability.replay import norms, samples_first
from bitcert.stability.settings import BatchContext, MeasureSettings


def layer_cushions(context: BatchContext, settings: MeasureSettings) -> dict[str, Tensor]:
    """``layer_cushion`` ``[B, d]``: ``||A phi|| / (||A||_F ||phi||)`` of every layer, NaN where ``phi = 0``."""
    found = [_cushion(context, layer) for layer in context.structure.layers]
    return {"layer_cushion": torch.stack(found, 1)}


def _cushion(context: BatchContext, layer: MeasuredLayer) -> Tensor:
    values = context.values
    phi, image = values[layer.source], values[layer.node]
    if not phi.is_floating_point():
        return norms(phi, 1)
    if layer.bias is not None:
        # cheaper than a second product; costs about eps * ||bias|| / ||A phi|| of relative accuracy
        bias = context.parameters[layer.bias]
        image = image - bias.reshape(-1, *[1] * (image.dim() - 2) if layer.channel_axis == 1 else ())
    size: Tensor = torch.linalg.vector_norm(context.parameters[layer.weight])
    return norms(image, 1) / (size * norms(phi, 1))


def contractions(context: BatchContext, settings: MeasureSettings) -> dict[str, Tensor]:
    """``contraction`` ``[B, d]``: of what lies between each layer and the layers before it.

    The induction step of Arora's Lemma 3 bounds the value that feeds the layer, with all layers before it replaced,
    by ``2 c`` times its clean norm. It knows that each replaced ``x^j`` has at most the norm ``2 ||x^j||``, and that
    no node between them and the layer makes a norm larger. So a node passes on the norm that it is given, a sum the
    sum of its inputs' norms, a concatenation the root of the sum of their squares; what depends on the network's
    input alone does not change and has its own norm. The contraction is the norm so found over the real one: exactly
    ``||x|| / ||phi(x)||`` in a chain, 1 for a layer that the input feeds, and at least ``||x^j|| / ||phi||`` for every
    ``x^j`` that ``phi`` is computed from.
    """
    given = _given_norms(context)
    found = []
    for layer in context.structure.layers:
        real = _sample_norms(context, layer.source)
        found.append(given.get(layer.source, real) / real)
    return {"contraction": torch.stack(found, 1)}


def _given_norms(context: BatchContext) -> dict[str, Tensor]:
    """Of every node between two weight layers, the largest norm ``[B]`` that the values it is computed from allow."""
    architecture, layers = context.architecture, context.structure.layers
    weighted = {layer.node for layer in architecture.weight_layers}
    sizes: dict[str, Tensor] = {}
    for node in needed_nodes(architecture, weighted, {layer.source for layer in layers}):
        # constants have no axis of examples
        names = [name for name in node.inputs if architecture.propagation.values[name].layout is not None]
        parts = torch.stack([sizes[name] if name in sizes else _sample_norms(context, name) for name in names])
        sizes[node.name] = torch.linalg.vector_norm(parts, dim=0) if node.op == "cat" else parts.sum(0)
    return sizes


def margins(context: BatchContext, settings: MeasureSettings) -> dict[str, Tensor]:
    """``margin``, ``output_norm`` and ``input_norm``, each ``[B]``; tokens have no norm (NaN)."""
    values = context.values
    logits = values[context.architecture.output]
    return {
        "margin": _margin(logits, context.labels),
        "output_norm": norms(logits, 1),
        "input_norm": norms(values[INPUT], 1),
    }


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    own = labels.to(logits.device)[:, None]
    others = logits.scatter(1, own, -torch.inf).amax(1)
    return logits.gather(1, own)[:, 0] - others


def _sample_norms(context: BatchContext, node: str) -> Tensor:
    layout = context.architecture.propagation.values[node].layout
    batch = len(context.values[INPUT])
    return norms(samples_first(context.values[node], layout, batch), 1)
