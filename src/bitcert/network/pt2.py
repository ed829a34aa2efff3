"""Loading a ``.pt2`` file without running what a stranger wrote into it.

``torch.export.load`` unpickles payloads marked ``use_pickle``, custom objects, sample inputs and legacy weight
files; it hands size expressions to ``sympy.sympify`` (which evaluates Python), resolves operator names by attribute
look-up on torch, writes node names into Python source that it executes, and loads compiled libraries. So the archive
is read here first, every string is checked against the grammar of its position, and torch is given a new archive that
contains only what passed: the graph, raw tensors, no pickles, no guards, no metadata but module paths.
It does NOT check what the network computes: :func:`bitcert.network.capturing.capture` does.
"""

from __future__ import annotations

import io
import json
import keyword
import math
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.export import ExportedProgram

from bitcert.errors import CaptureError, InputError
from bitcert.network import handlers
from bitcert.network.shapes import MAX_NODES, MAX_PARAMETERS
from bitcert.network.user_code import one_line

MAX_ARCHIVE_BYTES = 8 * MAX_PARAMETERS + 2**27
MAX_JSON_BYTES = 2**26
MAX_ENTRIES = 100_000
MAX_GRAPH_NODES = 4 * MAX_NODES
"""Most nodes of a graph as torch writes it; some of them are sizes and checks, which capture leaves out."""
MAX_EXPRESSIONS = 4 * MAX_NODES
"""Most sizes that depend on the batch in one file; sympy takes milliseconds for each."""
_MAX_SYMBOLS = 4
_MAX_WORDS = 40
_ADVICE = "export the model again with torch.export.save, or pass its code and a state dict"
_CPU = {"type": "cpu", "index": None}
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""Bytes of an entry by torch's serialised dtype number: integers, halves, floats and booleans only."""
_SYMBOL_TARGETS = {
    "torch.ops.aten.sym_size.int",
    "torch.ops.aten.sym_numel.default",
    "torch.ops.aten._assert_tensor_metadata.default",
    "torch.ops.aten._assert_scalar.default",
    "torch.ops.aten.sym_constrain_range_for_size.default",
    *(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "getitem", "neg")),
    *(f"_operator.{name}" for name in ("eq", "ne", "ge", "gt", "le", "lt")),
}
_WORD = re.compile(r"[A-Za-z0-9_.:+\-\[\]]{0,256}\Z")
_STRING_ARGUMENT = re.compile(r"[A-Za-z0-9_ ]{0,40}\Z")
_SYMBOL = r"Symbol\('[su]\d{1,6}'(?:, (?:positive|integer|nonnegative)=(?:True|False)){0,3}\)"
_CALL = r"(?:Mul|Add|Max|Min|Mod|FloorDiv|PythonMod|CleanDiv|CeilToInt|Eq|Ne|Ge|Gt|Le|Lt|GreaterThan|LessThan)\("
_ATOM = rf"{_SYMBOL}|{_CALL}|Integer\(-?\d{{1,12}}\)|\d{{1,12}}\b|[su]\d{{1,6}}\b|[(),+\-/ ]|\*(?!\*)"
_EXPRESSION = re.compile(rf"(?:{_ATOM})++\Z")
_MODULE_PATH = re.compile(r"[A-Za-z0-9_.]{0,200}\Z")


def _refuse(expected: str, got: str) -> NoReturn:
    raise InputError(expected, got[:200], _ADVICE)


def load_exported_program(path: str | Path) -> ExportedProgram:
    """Reads an untrusted ``.pt2`` file; see the module's text for what is refused.

    Raises:
        InputError: not a file that ``torch.export.save`` wrote, or one that would run foreign code.
        CaptureError: it uses operators that capture does not support; all are named.
    """
    entries = _read_archive(Path(path))
    try:
        clean = _clean_archive(entries)
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        # fields of another type than torch writes: the file is not torch's
        raise InputError("a consistent exported program", type(error).__name__, _ADVICE) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(clean)
    except Exception as error:
        raise InputError("a consistent exported program", one_line(error), _ADVICE) from error


def _read_archive(path: Path) -> dict[str, bytes]:
    try:
        size = path.stat().st_size
        if size > MAX_ARCHIVE_BYTES:
            _refuse(f"a .pt2 file of at most {MAX_ARCHIVE_BYTES} bytes", f"{size} bytes")
        with zipfile.ZipFile(path) as archive:
            return _read_entries(archive, size)
    except OSError as error:
        raise InputError("a readable .pt2 file", error.strerror or "an error", f"check the path {path}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise InputError("a .pt2 file written by torch.export.save", f"{error}"[:200], _ADVICE) from error


def _read_entries(archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > size:
        _refuse("an archive whose entries fit in its file", "one that expands")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        _refuse("uncompressed entries, as torch writes them", "compressed ones")
    roots = {info.filename.split("/")[0] for info in infos}
    entries = {info.filename.partition("/")[2]: info for info in infos}
    if len(roots) != 1 or len(entries) != len(infos):
        _refuse("one folder of distinct entries", "repeated names or several folders")
    foreign = [n for n in entries if n.startswith(("data/aotinductor", "data/executorch")) or n.endswith(".so")]
    if foreign:
        _refuse("a graph", f"compiled code ({foreign[0]})")
    wanted = ("models/", "data/weights/", "data/constants/", "archive_format", "archive_version")
    return {name: archive.read(info) for name, info in entries.items() if name.startswith(wanted)}


def _clean_archive(entries: dict[str, bytes]) -> io.BytesIO:
    # Imported late: it takes as long as all of torch, and only .pt2 files need it.
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    models = [name for name in entries if name.startswith("models/")]
    if models != ["models/model.json"] or entries.get("archive_format") != b"pt2":
        _refuse("a .pt2 archive with one model", f"{len(models)} models")
    records: dict[str, bytes] = {"models/model.json": _clean_model(_json(entries["models/model.json"]))}
    for folder, prefix in (("weights", "weight_"), ("constants", "tensor_")):
        records.update(_clean_payload(entries, folder, prefix))
    records["data/sample_inputs/model.pt"] = b""
    records["archive_version"] = entries.get("archive_version", b"")[:8]
    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for name, data in records.items():
            writer.write_bytes(name, data)
    buffer.seek(0)
    return buffer


def _json(data: bytes) -> Any:
    if len(data) > MAX_JSON_BYTES:
        _refuse(f"at most {MAX_JSON_BYTES} bytes of JSON", f"{len(data)}")

    def small(text: str) -> int:
        if len(text) > 20:
            _refuse("integers of at most 20 digits", f"one of {len(text)}")
        return int(text)

    try:
        return json.loads(data, parse_int=small)
    except (ValueError, RecursionError) as error:
        raise InputError("JSON in the .pt2 archive", str(error)[:100], _ADVICE) from error


def _clean_payload(entries: dict[str, bytes], folder: str, prefix: str) -> dict[str, bytes]:
    """Raw tensors of one folder and their table, after checking that nothing in it is pickled or oversized."""
    name = f"data/{folder}/model_{folder}_config.json"
    table = _json(entries.get(name, b""))
    config = table.get("config") if isinstance(table, dict) else None
    if not isinstance(config, dict) or len(config) > MAX_ENTRIES:
        _refuse(f"a table of {folder}", "none")
    records: dict[str, bytes] = {}
    total = 0
    for key, meta in config.items():
        if not isinstance(meta, dict) or meta.get("use_pickle") is not False:
            _refuse("raw tensors", f"the pickled payload {key!r}")
        path = meta.get("path_name")
        record = f"data/{folder}/{path}"
        if not isinstance(path, str) or not re.fullmatch(prefix + r"\d{1,6}", path) or record not in entries:
            _refuse(f"a payload named {prefix}NUMBER", repr(path))
        records[record] = entries[record]
        meta["tensor_meta"] = _clean_value(meta.get("tensor_meta"), "tensor_meta")
        total += _check_tensor(key, meta["tensor_meta"], len(entries[record]))
    if total > 8 * MAX_PARAMETERS:
        _refuse(f"at most {MAX_PARAMETERS} parameters", f"{total} bytes of them")
    return {**records, name: json.dumps(_clean_value(table, "")).encode()}


def _check_tensor(name: str, meta: Any, stored: int) -> int:
    try:
        sizes = [int(size["as_int"]) for size in meta["sizes"]]
        needed = math.prod(sizes) * _ITEM_BYTES[meta["dtype"]]
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"a dense tensor {name!r} of a common dtype", "something else", _ADVICE) from error
    # more entries than stored bytes would come from a stride of 0: a huge tensor in a tiny file
    if len(sizes) > 8 or any(size < 0 for size in sizes) or needed > stored:
        _refuse(f"a tensor {name!r} that fits its record", f"sizes {sizes} in {stored} bytes")
    return needed


def _clean_model(model: Any) -> bytes:
    """The serialised program with every string checked and everything optional removed."""
    if not isinstance(model, dict) or not isinstance(model.get("graph_module"), dict):
        _refuse("an exported program", "another JSON document")
    model["guards_code"] = []
    model["torch_version"] = ""
    module = model["graph_module"]
    module["metadata"] = {}
    if module.get("treespec_namedtuple_fields") or (module.get("graph") or {}).get("custom_obj_values"):
        _refuse("a model of tensors only", "custom objects")
    _check_targets(module)
    if (count := json.dumps(model).count('"expr_str"')) > MAX_EXPRESSIONS:
        _refuse(f"at most {MAX_EXPRESSIONS} sizes that depend on the batch", f"{count}")
    return json.dumps(_clean_value(model, "")).encode()


def _check_targets(module: dict[str, Any]) -> None:
    graph = module.get("graph")
    nodes = graph.get("nodes") if isinstance(graph, dict) else None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        _refuse("a graph with nodes", "none")
    if len(nodes) > MAX_GRAPH_NODES:
        _refuse(f"at most {MAX_GRAPH_NODES} nodes", f"{len(nodes)}")
    known = _SYMBOL_TARGETS | {f"torch.ops.{target}" for target in handlers.SUPPORTED_TARGETS}
    unknown: dict[str, None] = {}
    for node in nodes:
        target = node.get("target")
        if target not in known:
            metadata = node.get("metadata")
            where = _module_path(metadata if isinstance(metadata, dict) else {})
            unknown[f"{str(target)[:100]} in {where or 'the top module'}"] = None
    if unknown:
        raise CaptureError("supported operations only", "; ".join(list(unknown)[:50]), "replace them")


def _module_path(metadata: dict[str, Any]) -> str:
    stack = str(metadata.get("nn_module_stack", "")).rpartition(";")[2].split(",")
    path = stack[1] if len(stack) == 3 else ""
    return path if _MODULE_PATH.match(path) else ""


def _clean_value(value: Any, key: str, depth: int = 0) -> Any:
    """A copy in which every string fits its position; devices become the CPU, metadata a module path."""
    if depth > 40:
        _refuse("a flat document", "deep nesting")
    if key in ("device", "as_device"):
        return dict(_CPU)
    if key == "metadata" and isinstance(value, dict):
        path = _module_path(value)
        return {"nn_module_stack": f"m,{path},m"} if path else {}
    if isinstance(value, dict):
        return {_key(name, key): _clean_value(item, name, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item, key, depth + 1) for item in value]
    if isinstance(value, str):
        return _clean_string(value, key)
    return value


_IDENTIFIER_KEYS = {"name", "as_name", "forward_arg_names"}
_NAME_TABLES = {"tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"}


def _key(name: str, parent: str) -> str:
    if parent in _NAME_TABLES:
        return _identifier(name)
    if not _WORD.match(name):
        _refuse("plain names in the exported program", repr(name))
    return name


def _identifier(text: str) -> str:
    # names become Python source inside torch, so nothing but identifiers may pass
    if not re.fullmatch(r"[A-Za-z0-9_]{0,200}", text) or keyword.iskeyword(text) or text[:1].isdigit():
        _refuse("names that are identifiers", repr(text))
    return text


def _clean_string(text: str, key: str) -> str:
    if key in _IDENTIFIER_KEYS:
        return _identifier(text)
    if key == "expr_str":
        if len(text) > 500 or not _EXPRESSION.match(text) or not _is_simple(text):
            _refuse("sizes that are sums and products of integers and symbols", repr(text))
        return text
    if key in ("in_spec", "out_spec"):
        return json.dumps([1, _clean_spec(_json(text.encode()))])
    pattern = _STRING_ARGUMENT if key in ("as_string", "as_strings") else _WORD
    if not pattern.match(text):
        _refuse(f"a plain word as {key or 'value'}", repr(text))
    return text


def _is_simple(expression: str) -> bool:
    """Few enough symbols and functions: sympy takes seconds for the largest of some dozens of symbols."""
    words = re.findall(r"[A-Za-z]\w*", expression)
    symbols = {word for word in words if word[0] in "su" and word[1:].isdigit()}
    return len(words) <= _MAX_WORDS and len(symbols) <= _MAX_SYMBOLS


_KWARGS = re.compile(r"null|\[\]|\[\"[a-z_]{1,40}\"\]")


def _clean_spec(document: Any) -> Any:
    if not isinstance(document, list) or len(document) != 2 or document[0] != 1:
        _refuse("an input structure of tuples", "another structure")

    def visit(spec: Any, depth: int) -> dict[str, Any]:
        if depth > 8 or not isinstance(spec, dict) or set(spec) != {"type", "context", "children_spec"}:
            _refuse("an input structure of tuples", "another structure")
        kind, context = spec["type"], spec["context"]
        known = kind is None or kind in ("builtins.tuple", "builtins.list", "builtins.dict")
        if not known or not (context is None or (isinstance(context, str) and _KWARGS.fullmatch(context))):
            _refuse("inputs in tuples, lists or dicts", repr(kind))
        children = [visit(child, depth + 1) for child in spec["children_spec"]]
        return {"type": kind, "context": context, "children_spec": children}

    return visit(document[1], 0)
