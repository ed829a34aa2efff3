"""Train ``small_cnn`` on scikit-learn's digits and record its noise stability after every epoch: three lines more.

python examples/track_training.py track.jsonl track.svg
"""

import sys
from pathlib import Path

import torch
from lenet import small_cnn

from bitcert import Role, load_sample
from bitcert.report import plot_track
from bitcert.stability.tracker import Tracker

sample = load_sample("digits", Role.TRAIN)
x = torch.tensor(sample.inputs / 16, dtype=torch.float32)
y = torch.tensor(sample.labels)

torch.manual_seed(0)
model = small_cnn()
optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
tracker = Tracker(model, sample, Path(sys.argv[1]), samples=128)  # one
tracker.update(0)  # two: before any step
for epoch in range(1, 6):
    for rows in torch.randperm(len(y)).split(64):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
    record = tracker.update(epoch)  # three
    cushions = record.values["layer_cushion"]["median"]
    margin = record.values["margin"]["median"][0]
    print(f"epoch {epoch}: layer cushions {', '.join(f'{c:.3f}' for c in cushions)}, median margin {margin:.2f}")

figure, axes = plot_track(tracker, "layer_cushion")
figure.savefig(sys.argv[2])
