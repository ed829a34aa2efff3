"""Norms, stable ranks and spectra of every layer of ResNet-56: bitcert against weightwatcher 0.7.7, in one run.

The same quantities on the same matrices: for every layer the eigenvalues of ``W^T W`` pooled over the slices of the
kernel (weightwatcher's convention), their sum (``norm``), the largest (``spectral_norm``) and the stable rank, checked
equal to 1e-5. Best of ``--repeats`` runs, taken in turns. bitcert's time is that of a table with these numbers;
weightwatcher's, three times over, each with its ratio:

* ``ratio``: its ``analyze()``, which is how a user gets these numbers from it, with the power-law fit switched off. It
  still computes rank and entropy and builds its table.
* ``ratio_of_analyze``: its ``analyze()`` as it is.
* ``ratio_of_eigenvalues``: only its walk over the layers, normalisation, eigenvalues and the three numbers.

Usage::

    python benchmarks/spectra.py [--json] [--threads N] [--repeats N]

weightwatcher is no dependency of bitcert, and its requirements could change pinned packages. Use an environment that
has bitcert and that may be thrown away::

    pip install --no-deps weightwatcher==0.7.7 pandas matplotlib-inline traitlets
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import load_checkpoint
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from bitcert.certificates.certification import versions
from bitcert.linear import frobenius_norm, layer_spectra, norm_1inf, norm_21

RESULTS = Path(__file__).parents[1] / "docs" / "results-measure.jsonl"
TARGET_RATIO = 5.0
TOLERANCE = 1e-5
NEEDED = ("weightwatcher", "pandas", "matplotlib_inline")
HINT = "pip install --no-deps weightwatcher==0.7.7 pandas matplotlib-inline traitlets"

Rows = dict[str, dict[str, Any]]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Weights of the linear and convolution layers, by name."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    return {name: layer.weight.detach() for name, layer in layers.items()}


def _row(eigenvalues: np.ndarray) -> dict[str, Any]:
    total, largest = float(eigenvalues.sum()), float(eigenvalues.max())
    return {"eigenvalues": eigenvalues, "norm": total, "spectral_norm": largest, "stable_rank": total / largest}


def ours(weights: dict[str, Tensor]) -> Rows:
    """The compared quantities by bitcert."""
    return {name: _row(np.square(values[::-1])) for name, values in slice_spectra(weights).items()}


def slice_spectra(weights: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Spectra of ``W[:, :, a, b] / sqrt(2)`` pooled over the places of the kernel, as weightwatcher 0.7 takes them.

    A dense layer has one slice and no factor.
    """
    parts = {name: (w.double() / 2**0.5).flatten(2).unbind(2) if w.dim() > 2 else [w] for name, w in weights.items()}
    named = {f"{name} {k}": part for name, own in parts.items() for k, part in enumerate(own)}
    found = iter(layer_spectra(named).values())
    return {name: np.sort(np.concatenate([next(found) for _ in own]))[::-1] for name, own in parts.items()}


def everything_of_ours(weights: dict[str, Tensor]) -> list[tuple[np.ndarray, float, float, float]]:
    """Both kinds of spectrum and every norm of the kernels."""
    norms = {name: (frobenius_norm(w), norm_21(w), norm_1inf(w)) for name, w in weights.items()}
    kinds = (slice_spectra(weights), layer_spectra(weights))
    return [(values, *norms[name]) for found in kinds for name, values in found.items()]


class Theirs:
    """weightwatcher on the same module."""

    def __init__(self, model: nn.Module) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            import weightwatcher
            from weightwatcher.constants import DEFAULT_PARAMS

        logging.getLogger("weightwatcher").setLevel(logging.CRITICAL)
        self.watcher = weightwatcher.WeightWatcher(model=model)
        self.params = self.watcher.normalize_params(DEFAULT_PARAMS.copy())
        self.without_fit = weightwatcher.WeightWatcher(model=model)
        self.without_fit.apply_powerlaw = self._no_fit

    @staticmethod
    def _no_fit(layer: Any, params: Any = None) -> Any:
        # its norm metrics read an exponent
        layer.alpha = 0.0
        return layer

    def quantities(self) -> Rows:
        """What ``analyze`` does before its power-law fit, then sum, maximum and stable rank."""
        rows: Rows = {}
        for layer in self.watcher.make_layer_iterator(model=self.watcher.model, layers=[], params=self.params):
            if not layer.skipped and layer.has_weights:
                self.watcher.apply_normalize_Wmats(layer, self.params)
                self.watcher.apply_esd(layer, self.params)
                rows[layer.longname] = _row(layer.evals)
        return rows

    def analyze(self, fit: bool) -> Any:
        """Its public call."""
        with contextlib.redirect_stdout(io.StringIO()):
            return (self.watcher if fit else self.without_fit).analyze()


def deviation(mine: Rows, theirs: Rows) -> float:
    """Largest relative difference of any number; eigenvalues that are rounding against the largest one."""
    if mine.keys() != theirs.keys():
        raise SystemExit(f"the layers differ: {sorted(mine.keys() ^ theirs.keys())}")
    worst = 0.0
    for name, row in mine.items():
        other = theirs[name]
        for key in ("norm", "spectral_norm", "stable_rank"):
            worst = max(worst, abs(row[key] / other[key] - 1))
        rounding = 1e-12 * other["spectral_norm"]
        gaps = np.abs(row["eigenvalues"] - other["eigenvalues"]) / np.maximum(other["eigenvalues"], rounding)
        worst = max(worst, float(gaps.max()))
    return worst


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def run(repeats: int) -> dict[str, Any]:
    """One result line."""
    model = load_checkpoint("resnet56")
    weights, theirs = weights_of(model), Theirs(model)
    mine, rows = ours(weights), theirs.quantities()
    worst = deviation(mine, rows)
    table = theirs.analyze(fit=False).set_index("longname")
    for key in ("norm", "spectral_norm", "stable_rank"):
        worst = max(worst, max(abs(mine[name][key] / table[key][name] - 1) for name in mine))
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(weights),
        "ours_everything": lambda: everything_of_ours(weights),
        "analyze_without_fit": lambda: theirs.analyze(fit=False),
        "analyze": lambda: theirs.analyze(fit=True),
        "eigenvalues": theirs.quantities,
    }
    seconds = {key: float("inf") for key in calls}
    for _ in range(repeats):
        for key, call in calls.items():
            seconds[key] = min(seconds[key], timed(call))
    return {
        "network": "resnet56",
        "layers": len(weights),
        "ratio": round(seconds["analyze_without_fit"] / seconds["ours"], 1),
        "target_ratio": TARGET_RATIO,
        "ratio_of_analyze": round(seconds["analyze"] / seconds["ours"], 1),
        "ratio_of_eigenvalues": round(seconds["eigenvalues"] / seconds["ours"], 1),
        "seconds": {key: round(value, 4) for key, value in seconds.items()},
        "largest_deviation": worst,
        "tolerance": TOLERANCE,
        "weightwatcher": importlib.metadata.version("weightwatcher"),
    }


def main() -> None:
    """Compare, print one JSON line, and fail when the numbers differ or the ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="append the line to docs/results-measure.jsonl")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="for both sides")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; get the comparison with: {HINT}", file=sys.stderr)
        raise SystemExit(2)
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        result = run(options.repeats)
    line = {"benchmark": "spectra", "threads": options.threads, **result, "versions": versions()}
    print(json.dumps(line), flush=True)
    if options.json:
        with open(RESULTS, "a") as file:
            file.write(json.dumps(line) + "\n")
    if not result["largest_deviation"] <= TOLERANCE or result["ratio"] < TARGET_RATIO:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
