"""Train dense networks of three widths on 1,400 of scikit-learn's digits and write every bound of each.

python examples/widths.py widths
bitcert bounds --series widths/16.json,widths/64.json,widths/256.json --over width
"""

import sys
from pathlib import Path

import torch
from torch import nn

import bitcert

digits = bitcert.load_sample("digits", bitcert.Role.TRAIN)
order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).numpy()
train = digits.take(order[:1400], "1,400 digits")
held = digits.take(order[1400:], "397 digits").with_role(bitcert.Role.HOLDOUT)
preprocessing = bitcert.Preprocessing(16.0)
x, y = preprocessing(train.inputs), torch.tensor(train.labels)

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
for width in (16, 64, 256):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    model.append(nn.Linear(width, 10))
    initial = bitcert.capture(model, x[:2])
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _epoch in range(40):
        for rows in torch.randperm(len(y)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimiser.step()
    network = bitcert.capture(model.eval(), x[:2])
    table = bitcert.bounds(
        network, train, bitcert.BoundSettings(flatness=False), preprocessing=preprocessing, init=initial, holdout=held
    )
    (folder / f"{width}.json").write_text(table.named(f"width {width}").to_json())
    print(f"width {width}: real gap {100 * table.gap:.2f} %")
