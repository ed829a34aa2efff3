"""Table 1 of Guha 2023 beside our numbers: ``python benchmarks/guha.py train`` and then ``... rows [--json FILE]``.

Section 7 describes a ReLU network of 5 dense layers, hidden width 784, trained on MNIST with Adam, batches of 256 and a
learning rate of 0.02. ``train`` makes one: no biases, weights as ``nn.Linear`` draws them, inputs divided by 255. It
writes a checkpoint after each epoch and goes on from the last one; the same seed gives the same weights on one machine.
``rows`` gathers every bound of that network once and prints natural logarithms beside those the paper prints, each in
the forms that a reader might take the table for (capacity, ``sqrt(capacity / m)``, with and without ``2^d``). The
differences are explained in docs/guha-table.md. Networks and results are illustrations, no certificate.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from guha_rows import rows, show
from guha_training import Training, train

from bitcert import Role, load_sample


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "rows"))
    parser.add_argument("--folder", type=Path, default=Path("guha-runs"), help="of checkpoints")
    parser.add_argument("--width", type=int, default=784, help="hidden width")
    parser.add_argument("--rate", type=float, default=0.001, help="learning rate of Adam; the paper says 0.02")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further epoch after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quantile", type=float, default=0.05, help="of the margins, for gamma")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--json", type=Path, help="append the result of rows to this file, one line")
    return parser.parse_args()


def main() -> None:
    """Train, or print the rows."""
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    chosen = {key: getattr(arguments, key) for key in ("folder", "width", "rate", "epochs", "minutes", "seed")}
    training = Training(**chosen)
    if arguments.stage == "train":
        train(training, load_sample("mnist", Role.TRAIN), lambda line: print(line, flush=True))
        return
    if not training.file("weights").exists():
        raise SystemExit(f"expected trained weights, got none at {training.file('weights')}; run the stage train first")
    result = rows(training, arguments.quantile)
    if arguments.json:
        with arguments.json.open("a") as file:
            file.write(json.dumps(result) + "\n")
    print("\n".join(show(result)))


if __name__ == "__main__":
    main()
