"""Train ``small_cnn`` on scikit-learn's digits the ordinary way and save its weights: a network of your own.

python examples/train_digits.py digits_cnn.safetensors
"""

import sys

import torch
from lenet import small_cnn
from safetensors.torch import save_file
from sklearn.datasets import load_digits

digits = load_digits()
x = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
y = torch.tensor(digits.target)

torch.manual_seed(0)
model = small_cnn()
optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
for _epoch in range(15):
    for rows in torch.randperm(len(y)).split(64):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()

save_file(model.state_dict(), sys.argv[1])
model.eval()
print(f"training error {(model(x).argmax(1) != y).double().mean():.4f}")
