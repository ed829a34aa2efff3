"""A module of Lightning is captured after its training, and its checkpoint is read; skipped without Lightning."""

import pytest
import torch

from bitcert import capture
from bitcert.network import load_model

lightning = pytest.importorskip("lightning")

MODULE = """
import lightning
import torch

class Small(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
"""


def test_a_trained_module_is_captured_and_its_checkpoint_read(tmp_path, monkeypatch):
    (tmp_path / "a_lightning_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    module = load_model("a_lightning_module:Small").model
    data = torch.utils.data.TensorDataset(torch.randn(20, 1, 4, 4), torch.arange(20) % 3)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(data, 5))
    trainer.save_checkpoint("last.ckpt")
    x = torch.randn(7, 1, 4, 4)
    for model in (module, load_model("a_lightning_module:Small", "last.ckpt").model):
        network = capture(model, x[:2])
        assert torch.equal(network.architecture.forward(x, network.parameters), module.eval()(x).detach())
