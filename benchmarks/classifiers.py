"""Which classifiers of ``transformers`` can be captured: every family, at a tiny random size, without a network.

    python benchmarks/classifiers.py --write docs/results-classifiers.jsonl     # an hour; needs the extra "hf"
    python benchmarks/classifiers.py --table docs/results-classifiers.jsonl     # the table of docs/models.md

A family is *captured* if its replay equals the model within 1e-5 (``deviation`` is the largest, relative to the
largest logit), *opaque* if it can only be certified with its Python code (and why), *refused* if neither works, and
*not tried* if its tiny configuration cannot be built here, which says nothing about the family.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

TINY = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "embedding_size", "dim", "embed_dim", "word_embed_proj_dim"), 32
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "decoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("hidden_dim", "ffn_hidden_size", "dim_ff", "dff", "moe_intermediate_size"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 64),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "top_k"), 2),
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("eos_token_id", "bos_token_id"), 2),
    **dict.fromkeys(("image_size",), 32),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 16),
    "vocab_size": 99,
    "vocab_size_per_layer_input": 99,
    "d_kv": 8,
    "num_labels": 3,
    "type_vocab_size": 2,
    "patch_size": 8,
    "n_group": 1,
    "topk_group": 1,
}
LENGTH = 12


def families(kinds: str) -> Iterator[tuple[str, str]]:
    """Kind and name of every family."""
    from transformers.models.auto import modeling_auto as auto

    if "text" in kinds:
        yield from (("text", name) for name in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    if "image" in kinds:
        yield from (("image", name) for name in auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def tiny_model(kind: str, name: str):
    """A random classifier of a family and its example."""
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

    default = AutoConfig.for_model(name)
    known = {key: value for key, value in TINY.items() if hasattr(default, key)}
    if kind == "image" and isinstance(getattr(default, "hidden_size", 32), list):
        known.pop("hidden_size")
    if kind == "image" and hasattr(default, "depths"):  # stages, whose sizes and number fit each other by default
        known = {
            key: value for key, value in known.items() if key not in ("num_hidden_layers", "num_layers", "patch_size")
        }
    known = {key: value for key, value in known.items() if isinstance(getattr(default, key), int | type(None))}
    config = None
    while config is None:  # some settings follow from others in some families
        try:
            config = AutoConfig.for_model(name, **{**known, "num_labels": 3})
        except Exception as error:
            refused = next((key for key in known if f"{key!r}" in str(error) or f"`{key}`" in str(error)), None)
            if refused is None:
                raise
            known.pop(refused)
    torch.manual_seed(0)
    maker = AutoModelForSequenceClassification if kind == "text" else AutoModelForImageClassification
    model = maker.from_config(config).eval()
    if sum(p.numel() for p in model.parameters()) > 60_000_000:
        raise ValueError("a tiny configuration is too large")
    if kind == "text":
        example = torch.randint(3, 90, (3, LENGTH))
        example[1, -4:] = 0
        example[[0, 2], -1] = example[1, -5] = 2  # the end of the text, for encoders with a decoder
        return model, example
    channels, size = getattr(config, "num_channels", 3), getattr(config, "image_size", 64)
    size = size if isinstance(size, int) else size[0]
    size = 64 if hasattr(config, "depths") or hasattr(config, "hidden_sizes") else size
    return model, torch.randn(3, channels, size, size)


def try_family(kind: str, name: str) -> dict[str, object]:
    """The row of one family."""
    from bitcert.errors import BitcertError
    from bitcert.network import capture, capture_opaque

    row: dict[str, object] = {"kind": kind, "family": name}
    try:
        model, example = tiny_model(kind, name)
        row["class"] = type(model).__name__
    except Exception as error:
        return {**row, "result": "not tried", "why": _short(error)}
    try:
        network = capture(model, example)
        found = {"operations": len(network.architecture.nodes), "deviation": float(f"{network.report.deviation:.1g}")}
        return {**row, "result": "captured", **found}
    except BitcertError as error:
        row["why"] = _short(error)
    if "accepts the example" in str(row["why"]):  # whatever its layers are, these sizes do not fit together
        return {**row, "result": "not tried"}
    try:
        capture_opaque(model, "models:make", example)
        return {**row, "result": "opaque"}
    except BitcertError as error:
        return {**row, "result": "refused", "why": _short(error)}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _one(task: tuple[str, str], seconds: int, end: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    end.send(try_family(*task))


def _row(task: tuple[str, str], seconds: int) -> dict[str, object]:
    """The row of a family, made in a process of its own that has so much processor time."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_one, args=(task, seconds, there))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        why = f"longer than {seconds} s of processor time"
        return {"kind": task[0], "family": task[1], "result": "not tried", "why": why}
    finally:
        process.join()


def write(path: Path, kinds: str, only: list[str], seconds: int) -> None:
    """Try the families that have no row yet, each with so many seconds, and append their rows."""
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = [row for row in known if row["family"] not in only]
    done = {(row["kind"], row["family"]) for row in kept}
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    tiny_model("text", "bert")  # the imports, once for all
    for task in families(kinds):
        if task in done or (only and task[1] not in only):
            continue
        row = _row(task, seconds)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def table(path: Path) -> str:
    """The rows as Markdown, sorted by kind and family."""
    rows = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda r: (r["kind"], r["family"]))
    lines = ["| family | inputs | result | why not captured |", "| --- | --- | --- | --- |"]
    for row in rows:
        why = "" if row["result"] == "captured" else str(row.get("why", "")).replace("|", "\\|")
        why = why if len(why) <= 140 else f"{why[:139].rsplit(' ', 1)[0]} …"
        lines.append(f"| {row['family']} | {row['kind']} | {row['result']} | {why} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--kinds", default="text,image")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    if options.write:
        write(options.write, options.kinds, [name for name in options.only.split(",") if name], options.seconds)
    if options.table:
        sys.stdout.write(table(options.table) + "\n")


if __name__ == "__main__":
    main()
