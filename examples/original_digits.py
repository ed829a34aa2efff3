"""A network whose certificate will be its own: trained on 1,200 of scikit-learn's digits, 597 are set aside unlabelled.

python examples/original_digits.py FOLDER writes labelled.npz, unlabelled.npz and cnn.safetensors there.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from lenet import small_cnn
from safetensors.torch import save_file
from sklearn.datasets import load_digits

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, labels = digits.images[order][:, None].astype(np.uint8), digits.target[order]
np.savez(folder / "labelled.npz", x=images[:1200], y=labels[:1200])
np.savez(folder / "unlabelled.npz", x=images[1200:], y=labels[1200:])  # the labels are never read

x, y = torch.tensor(images[:1200] / 16, dtype=torch.float32), torch.tensor(labels[:1200])
torch.manual_seed(0)
model = small_cnn()
optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
for _epoch in range(20):
    for rows in torch.randperm(len(y)).split(64):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
save_file(model.state_dict(), folder / "cnn.safetensors")
