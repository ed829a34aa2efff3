"""Train a grid of small networks on 600 digits: `python survey_grid.py FOLDER` writes weights, train.npz, test.npz."""

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

TRAINED = 600


def mlp(width: int = 16, depth: int = 1) -> nn.Sequential:
    """A network of `depth` hidden layers; `bitcert survey` calls it with the width and depth in the name of a file."""
    sizes = [64, *[width] * depth]
    hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 10))


def train(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, rate: float, steps: int = 400) -> None:
    """Stochastic gradient descent with batches of 64."""
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum=0.9)
    for _ in range(steps):
        batch = torch.randint(len(labels), (64,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
        optimiser.step()


def main(folder: Path) -> None:
    """Write the grid and its data."""
    folder.mkdir(exist_ok=True)
    digits = load_digits()
    inputs, labels = (digits.images / 16).astype(np.float32), digits.target
    order = np.random.default_rng(0).permutation(len(labels))
    for name, rows in (("train", order[:TRAINED]), ("test", order[TRAINED:])):
        np.savez(folder / f"{name}.npz", x=inputs[rows][:, None], y=labels[rows])
    own = order[:TRAINED]
    for width, depth, rate in itertools.product((8, 64), (1, 2), (0.02, 0.2)):
        torch.manual_seed(0)
        network = mlp(width, depth)
        train(network, torch.from_numpy(inputs[own]), torch.from_numpy(labels[own]), rate)
        save_file(network.state_dict(), folder / f"width={width},depth={depth},rate={rate}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
