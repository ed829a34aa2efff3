"""The network of Guha 2023, section 7: a ReLU network of 5 dense layers trained on MNIST with Adam, resumable.

No biases, weights as ``nn.Linear`` draws them, inputs divided by 255, batches of 256. A checkpoint is written after
each epoch; the same seed gives the same weights on one machine.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bitcert import Sample
from bitcert.random import stream, torch_stream

DEPTH, BATCH, PIXELS, CLASSES = 5, 256, 784, 10


@dataclass(frozen=True)
class Training:
    """One network and how it is trained.

    Attributes:
        folder: of checkpoints.
        width: hidden width.
        rate: learning rate of Adam.
        epochs: to reach.
        minutes: after which no further epoch is begun.
        seed: of the first weights and of the order of the examples.
    """

    folder: Path
    width: int = 784
    rate: float = 0.001
    epochs: int = 20
    minutes: float = math.inf
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its files."""
        return f"mlp{self.width}-rate{self.rate:g}-seed{self.seed}"

    def file(self, what: str) -> Path:
        """``init`` (first weights), ``weights`` (last ones), ``adam`` (to go on) or ``log``."""
        return self.folder / f"{self.name}-{what}.{'json' if what == 'log' else 'safetensors'}"


def build(width: int, seed: int = 0) -> nn.Sequential:
    """The network on ``[batch, 1, 28, 28]``, its weights as ``nn.Linear`` draws them: ``U(+-1/sqrt(inputs))``."""
    generator = torch_stream(seed, f"guha mlp {width}")
    layers: list[nn.Module] = [nn.Flatten()]
    sizes = [PIXELS, *[width] * (DEPTH - 1), CLASSES]
    for inputs, outputs in itertools.pairwise(sizes):
        layer = nn.Linear(inputs, outputs, bias=False)
        with torch.no_grad():
            layer.weight.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _adam(model: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=rate)


def _save(training: Training, model: nn.Module, adam: torch.optim.Adam, log: list[dict[str, float]]) -> None:
    """The log goes last: an epoch counts only once everything else of it is on disk."""
    state = {f"{k}.{key}": value for k, part in adam.state_dict()["state"].items() for key, value in part.items()}
    state |= {f"weights.{name}": value for name, value in model.state_dict().items()}
    save_file(state, training.file("adam").with_suffix(f".{len(log)}"))
    save_file(model.state_dict(), training.file("weights"))
    part = training.file("log").with_suffix(".part")
    part.write_text(json.dumps(log, indent=1) + "\n")
    part.replace(training.file("log"))
    training.file("adam").with_suffix(f".{len(log) - 1}").unlink(missing_ok=True)


def _restore(training: Training, model: nn.Module, adam: torch.optim.Adam) -> list[dict[str, float]]:
    if not training.file("log").exists():
        return []
    log: list[dict[str, float]] = json.loads(training.file("log").read_text())
    tensors = load_file(training.file("adam").with_suffix(f".{len(log)}"))
    model.load_state_dict({key[8:]: value for key, value in tensors.items() if key.startswith("weights.")})
    content = adam.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, what = key.partition(".")
        if index != "weights":
            state.setdefault(int(index), {})[what] = value
    adam.load_state_dict({**content, "state": state})
    return log


def _epoch(
    model: nn.Module, adam: torch.optim.Adam, pixels: Tensor, labels: Tensor, order: Tensor
) -> tuple[float, int]:
    """Mean loss, and examples that the network had wrong when it met them."""
    total, wrong = 0.0, 0
    for chosen in order.split(BATCH):
        logits = model(pixels[chosen])
        loss = F.cross_entropy(logits, labels[chosen])
        adam.zero_grad()
        loss.backward()
        adam.step()
        total += float(loss.detach()) * len(chosen)
        wrong += int((logits.detach().argmax(1) != labels[chosen]).sum())
    return total / len(order), wrong


def train(training: Training, sample: Sample, tell: Callable[[str], None]) -> nn.Sequential:
    """Train to the number of epochs, or until the minutes are over; begun again, it goes on after the last epoch."""
    training.folder.mkdir(parents=True, exist_ok=True)
    model = build(training.width, training.seed)
    save_file(model.state_dict(), training.file("init"))
    adam = _adam(model, training.rate)
    log, start = _restore(training, model, adam), time.monotonic()
    pixels = torch.from_numpy(sample.inputs.copy()).float() / 255
    labels = torch.from_numpy(sample.labels.copy()).long()
    while len(log) < training.epochs and time.monotonic() - start < 60 * training.minutes:
        order = stream(training.seed, f"guha order {len(log)}").permutation(len(pixels))
        begun = time.monotonic()
        loss, wrong = _epoch(model, adam, pixels, labels, torch.from_numpy(order))
        log.append({"epoch": len(log) + 1, "loss": loss, "wrong": wrong, "seconds": time.monotonic() - begun})
        _save(training, model, adam, log)
        tell(f"{training.name} epoch {len(log)}: loss {loss:.4g}, {wrong} wrong, {log[-1]['seconds']:.0f} s")
    return model
