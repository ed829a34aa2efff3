"""torch module -> :class:`Network`: export, translate, fold, and prove by replay that nothing was lost.

The module is copied, put into evaluation mode and exported with a symbolic batch size. Every parameter, buffer
and constant is accounted for: it reaches the output and becomes a named parameter, or it is named in an error.
The replay must equal the original within 1e-5 of the largest output on batches of two sizes; that is evidence on
these batches, NOT a proof of equality on every input. The certificate speaks of the replayed network.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from bitcert.errors import BitcertError, CaptureError
from bitcert.network import handlers  # noqa: F401  (fills the table of handlers)
from bitcert.network.architecture import Architecture
from bitcert.network.checks import Function, check_eager, check_example, check_finite, check_replay, evaluation_copy
from bitcert.network.fold import BATCH_NORM, Folded, fold_batch_norms
from bitcert.network.lowering import HANDLERS, Lowering, ancestors, is_symbolic
from bitcert.network.network import CaptureReport, Network
from bitcert.network.nodes import INPUT, Node, ParameterSpec
from bitcert.network.onnx_module import OnnxModule
from bitcert.network.shapes import ShapeError
from bitcert.network.unwrapping import LogitsOf, with_plain_weights
from bitcert.network.user_code import one_line


@dataclass(frozen=True)
class _Program:
    """An exported program with its tensors resolved: placeholder -> parameter name -> value."""

    exported: ExportedProgram
    names: dict[str, str]
    values: dict[str, Tensor]
    kinds: dict[str, InputKind]
    targets: dict[str, str]
    tied: tuple[str, ...]
    passing: frozenset[str]
    """Buffers that a state dict does not hold: made anew by the module's code."""


@dataclass(frozen=True)
class Understood:
    """A captured module whose tensors can be read anew: its nodes before folding, and where each value lives."""

    network: Network
    nodes: tuple[Node, ...]
    output: str
    values: dict[str, Tensor]
    targets: dict[str, str]


Model = nn.Module | ExportedProgram
"""What can be captured."""


def accepted_example(model: Model, examples: Sequence[Tensor]) -> Tensor:
    """The first of several examples of other types that the model can compute with; the first of all if none is."""
    if isinstance(model, ExportedProgram):
        users = [spec.arg.name for spec in model.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
        kinds = [node.meta["val"].dtype for node in model.graph.nodes if node.name in users and "val" in node.meta]
        return next((example for example in examples if [example.dtype] == kinds), examples[0])
    if isinstance(model, OnnxModule):
        wanted = torch.int64 if model.reads_tokens else torch.float32
        return next((example for example in examples if example.dtype == wanted), examples[0])
    module = evaluation_copy(model, [])
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for example in examples:
            try:
                module(example)
            except Exception:
                continue
            return example
    return examples[0]


def capture(model: nn.Module | ExportedProgram, example: Tensor) -> Network:
    """Captures ``model`` as a graph of supported operations; the module itself is not changed.

    Args:
        model: a module (captured as it behaves in evaluation mode) or a program exported with a dynamic batch.
        example: inputs ``[batch, ...]``, float32 or int64 tokens; values should be typical, gradients are not needed.

    Raises:
        CaptureError: the model raises, is random, is unsupported (all reasons named), has unused or non-finite
            parameters, or its replay differs from it.
    """
    return understand(model, check_example(example)).network


def understand(model: nn.Module | ExportedProgram, example: Tensor) -> Understood:
    """What :func:`capture` returns, with what :class:`~bitcert.network.recapture.Recapture` needs to do it again."""
    # a random model, and torch.export itself, must not disturb the caller's stream of random numbers
    with torch.random.fork_rng(devices=[]):
        return _understand(model, example)


def _understand(model: nn.Module | ExportedProgram, example: Tensor) -> Understood:
    notes: list[str] = []
    eager: Function | None = None
    if isinstance(model, OnnxModule):
        exported = _export(model, example)
        outputs = _recorded(exported, example)
    elif isinstance(model, nn.Module):
        eager = module = evaluation_copy(model, notes)
        check_finite({**dict(module.named_parameters()), **dict(module.named_buffers())})
        outputs = int(check_eager(module, example).shape[1])
        exported = _export(with_plain_weights(module), example)
    else:
        exported, outputs = model, _recorded(model, example)
    program = _resolve(exported)
    check_finite(program.values)
    program, lowering = _lowered(program)
    folded = fold_batch_norms(lowering[0], program.values, lowering[1])
    dropped = _account(program, lowering[0], of_library=isinstance(model, OnnxModule) or isinstance(eager, LogitsOf))
    architecture = _architecture(folded, example, outputs)
    if eager is None:
        # a file from elsewhere: nothing of it runs before its sizes are known to be within the limits
        eager = _runnable(exported)
        check_eager(eager, example)
    parameters = {spec.name: folded.parameters[spec.name] for spec in architecture.parameters}
    deviation = check_replay(eager, architecture, parameters, example)
    report = CaptureReport(folded.notes, program.tied, dropped, tuple(notes), deviation)
    network = Network(architecture, parameters, report)
    return Understood(network, tuple(lowering[0]), lowering[1], program.values, program.targets)


def _recorded(exported: ExportedProgram, example: Tensor) -> int:
    """Number of outputs that a program says it has; its input must be of the example's shape and kind.

    Raises:
        CaptureError: it says nothing usable, or is for other inputs.
    """
    users = {s.arg.name for s in exported.graph_signature.input_specs if s.kind == InputKind.USER_INPUT}
    inputs = [node.meta.get("val") for node in exported.graph.nodes if node.name in users]
    found = exported.graph.output_node().args[0]
    leaf = found[0] if isinstance(found, list | tuple) and len(found) == 1 else found
    value = leaf.meta.get("val") if isinstance(leaf, fx.Node) else None
    if len(inputs) == 1 and isinstance(inputs[0], Tensor):
        wanted, kind = list(inputs[0].shape[1:]), inputs[0].dtype
        if [str(size) for size in wanted] != [str(size) for size in example.shape[1:]] or kind != example.dtype:
            expected = f"inputs {wanted} of {kind}, which this program was exported for"
            raise CaptureError(expected, f"{list(example.shape[1:])} of {example.dtype}", "check the data")
    if not isinstance(value, Tensor) or value.dim() != 2 or is_symbolic(value.shape[1]):
        got = f"shape {list(value.shape)}" if isinstance(value, Tensor) else "another one"
        raise CaptureError("an output [batch, classes]", got, "return the logits only")
    return int(value.shape[1])


def _runnable(exported: ExportedProgram) -> Function:
    """The program as a function, without what its output does not depend on: only the rest has been looked at."""
    try:
        module = exported.module(check_guards=False)
        needed = ancestors(module.graph)
        for node in reversed(list(module.graph.nodes)):
            if node not in needed and node.op != "placeholder":
                module.graph.erase_node(node)
        module.recompile()
    except (AttributeError, AssertionError, TypeError, ValueError, KeyError, RuntimeError) as error:
        got = f"one whose parts do not fit together ({one_line(error)})"
        raise CaptureError("a consistent exported program", got, "export the model again") from error
    function: Function = module
    return function


@contextmanager
def _silent() -> Iterator[None]:
    """Warnings, a log line and the graph so far, which torch writes to stderr before it raises: the error says it."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def _export(module: nn.Module, example: Tensor) -> ExportedProgram:
    try:
        with _silent():
            return torch.export.export(module, (example,), dynamic_shapes=({0: Dim.AUTO},), strict=False)
    except BitcertError:
        raise
    except Exception as error:
        raise CaptureError(
            "a module that torch.export accepts", one_line(error), "certify it as an opaque module instead"
        ) from error


def _tensor_key(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _ir_name(target: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.\-]", "_", target)[:190]
    return name if name and name[0] not in ".-" else f"_{name}"


def _resolve(exported: ExportedProgram) -> _Program:
    names: dict[str, str] = {}
    values: dict[str, Tensor] = {}
    kinds: dict[str, InputKind] = {}
    targets: dict[str, str] = {}
    tied: list[str] = []
    seen: dict[tuple[object, ...], str] = {}
    tensors = {**exported.constants, **exported.state_dict}
    users = [spec for spec in exported.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    if len(users) != 1 or any(s.kind == OutputKind.BUFFER_MUTATION for s in exported.graph_signature.output_specs):
        raise CaptureError(
            "a model with one input tensor that leaves its buffers alone",
            f"{len(users)} inputs" if len(users) != 1 else "buffers that change in evaluation mode",
            "wrap it in a module that does",
        )
    for spec in exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            names[spec.arg.name] = INPUT
            continue
        tensor = tensors.get(spec.target or "")
        if not isinstance(tensor, Tensor) or spec.target is None:
            continue
        key = _tensor_key(tensor)
        if key in seen and tensor.numel():
            names[spec.arg.name] = seen[key]
            tied.append(f"{spec.target} = {seen[key]}")
            continue
        name = _ir_name(spec.target)
        while name in values or name == INPUT:
            name += "_"
        seen[key] = names[spec.arg.name] = name
        values[name], kinds[name] = tensor.detach().cpu().contiguous().clone(), spec.kind
        targets[name] = spec.target
    passing = {names[spec.arg.name] for spec in exported.graph_signature.input_specs if spec.persistent is False}
    return _Program(exported, names, values, kinds, targets, tuple(tied), frozenset(passing))


def _lowered(program: _Program) -> tuple[_Program, tuple[list[Node], str]]:
    """The program as nodes; where it has operators without a handler, of the program that torch decomposes them into.

    Raises:
        CaptureError: naming every part of the program as it was written that is not understood.
    """
    lowering, output = _lower(program)
    if lowering.problems:
        simpler = _decomposed(program)
        again = None if simpler is None else _lower(simpler)
        if simpler is None or again is None or again[0].problems:
            got = "; ".join(dict.fromkeys(lowering.problems))
            raise CaptureError(
                "supported operations only", got, "replace them, or certify the model as an opaque module"
            )
        program, (lowering, output) = simpler, again
    return program, (lowering.nodes, output)


def _decomposed(program: _Program) -> _Program | None:
    """The same program without the operators that no handler knows, if torch has simpler ones for all of them."""
    rules: Any = torch.export.default_decompositions()
    known = {
        operator: rule
        for operator, rule in rules.items()
        if str(operator) not in HANDLERS and "sym_" not in str(operator)
    }
    names = set(map(str, known))
    if not any(str(node.target) in names for node in program.exported.graph.nodes):
        return None
    try:
        with _silent():
            return _resolve(program.exported.run_decompositions(known))
    except Exception:  # torch raises many types here; the operators are then named as they are
        return None


def _lower(program: _Program) -> tuple[Lowering, str]:
    graph = program.exported.graph
    batch: object = None
    for node in graph.nodes:
        if node.op == "placeholder" and program.names.get(node.name) == INPUT:
            value = node.meta.get("val")
            batch = value.shape[0] if isinstance(value, Tensor) and value.dim() else None
    if not is_symbolic(batch):
        raise CaptureError(
            "a model for any batch size",
            "one whose batch size is fixed",
            "avoid batch sizes in forward, or export with dynamic_shapes=({0: torch.export.Dim.AUTO},)",
        )
    lowering = Lowering(program.names, frozenset(_integer_names(program)), batch)
    return lowering, lowering.run(graph)


def _integer_names(program: _Program) -> Iterable[str]:
    for name, tensor in program.values.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise CaptureError("float32 parameters", f"{name} of {tensor.dtype}", "convert the model before exporting")
        small = tensor.numel() == 0 or (not tensor.is_floating_point() and int(tensor.long().abs().max()) <= 2**24)
        if tensor.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8) and small:
            yield name


def _account(program: _Program, nodes: list[Node], of_library: bool) -> tuple[str, ...]:
    """Names of harmless unused state; everything else that is unused is an error.

    Classifiers of ``transformers`` carry parts for other tasks, which are left out; weights of an ONNX file that hold
    settings are read as settings.
    """
    used = {name for node in nodes for name in node.inputs}
    unused = [name for name in program.values if name not in used]
    counters = [name for name in unused if name.split(".")[-1] == "num_batches_tracked"]
    harmless = program.passing.union(counters)
    lost = [name for name in unused if name not in harmless and program.kinds[name] != InputKind.CONSTANT_TENSOR]
    if lost and not of_library:
        raise CaptureError(
            "every parameter and buffer to reach the output",
            f"no effect of {', '.join(lost)}",
            "remove what is not used",
        )
    return tuple(unused)


_WEIGHT_POSITIONS: dict[str, tuple[str, ...]] = {
    "linear": ("weight", "bias"),
    "conv1d": ("weight", "bias"),
    "conv2d": ("weight", "bias"),
    **{f"conv{kind}d": ("weight", "bias") for kind in (3, "_transpose1", "_transpose2", "_transpose3")},
    "embedding": ("table",),
    "affine_channel": ("scale", "bias"),
    "layer_norm": ("scale", "bias"),
    "group_norm": ("scale", "bias"),
    "prelu": ("scale",),
}


def _kind(name: str, nodes: Iterable[Node]) -> str:
    for node in nodes:
        positions = _WEIGHT_POSITIONS.get(node.op, ())
        for k, kind in enumerate(positions, start=1):
            if k < len(node.inputs) and node.inputs[k] == name:
                return kind
        if node.op == "matmul" and name in node.inputs:
            return "weight"
    return "buffer"


def _architecture(folded: Folded, example: Tensor, num_outputs: int) -> Architecture:
    nodes = list(folded.nodes)
    assert all(node.op != BATCH_NORM for node in nodes)
    order = dict.fromkeys(name for node in nodes for name in node.inputs if name in folded.parameters)
    specs = tuple(ParameterSpec(name, tuple(folded.parameters[name].shape), _kind(name, nodes)) for name in order)
    # the output is the last node by definition; whatever stands after it does not reach it
    position = next((k for k, node in enumerate(nodes) if node.name == folded.output), None)
    if position is None:
        raise CaptureError("a model that computes something", "one that returns its input or a parameter", "check it")
    dtype = "int64" if example.dtype == torch.int64 else "float32"
    try:
        return Architecture(tuple(example.shape[1:]), num_outputs, tuple(nodes[: position + 1]), specs, dtype)
    except ShapeError as error:
        raise CaptureError(
            "a network that treats every sample alone and fits the limits", str(error), "change the model"
        ) from error
