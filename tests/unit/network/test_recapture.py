"""A module captured again while it changes: the same network as a capture from the beginning, found faster."""

import copy

import pytest
import torch
from torch import nn

from bitcert.errors import CaptureError
from bitcert.network import capture
from bitcert.network import recapture as module_under_test
from bitcert.network.recapture import Recapture


class Residual(nn.Module):
    """Batch norms that fold, one that does not, a tied weight, and a buffer that the state dict leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.other, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head, self.twice = nn.Linear(4, 3), nn.Linear(4, 3)
        self.twice.weight = self.head.weight
        self.register_buffer("scale", torch.tensor([0.5]), persistent=False)
        self.wide = False

    def forward(self, x):
        y = self.norm(self.conv(x))
        z = torch.relu(y + self.second(self.other(torch.relu(y)))).mean((2, 3)) * self.scale
        return self.head(z) + self.twice(z) + (z[:, :3] if self.wide else 0.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Residual()


EXAMPLE = torch.rand(5, 1, 6, 6)


def step(model):
    """One step of training, which moves weights and running statistics."""
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(EXAMPLE).square().sum().backward()
    optimiser.step()


def same(network, other):
    assert network.architecture == other.architecture
    assert network.parameters.keys() == other.parameters.keys()
    return all(torch.equal(value, other.parameters[name]) for name, value in network.parameters.items())


def test_every_recapture_is_what_a_capture_from_the_beginning_finds(model):
    recapture = Recapture(model, EXAMPLE)
    first = recapture()
    assert same(first, capture(model, EXAMPLE))
    for _ in range(3):
        step(model)
        model.scale *= 1.5
        again = recapture()
        assert same(again, capture(model, EXAMPLE))
        assert not same(again, first)
        assert again.architecture is first.architecture


def test_the_module_is_exported_once(model, monkeypatch):
    recapture = Recapture(model, EXAMPLE)
    recapture()

    def never(*arguments):
        pytest.fail("exported again")

    monkeypatch.setattr(module_under_test, "understand", never)
    step(model)
    recapture()


def test_a_change_of_structure_is_captured_anew(model):
    recapture = Recapture(model, EXAMPLE)
    before = recapture().architecture
    model.wide = True
    after = recapture()
    assert after.architecture != before
    assert same(after, capture(model, EXAMPLE))


def test_a_tie_that_was_undone_is_noticed(model):
    recapture = Recapture(model, EXAMPLE)
    recapture()
    model.twice.weight = nn.Parameter(torch.ones(3, 4))
    assert same(recapture(), capture(model, EXAMPLE))


def test_a_layer_of_another_size(model):
    recapture = Recapture(model, EXAMPLE)
    recapture()
    model.head, model.twice = nn.Linear(4, 2), nn.Linear(4, 2)
    assert recapture().architecture.num_outputs == 2


def test_what_became_of_the_weights_is_refused_in_one_sentence(model):
    recapture = Recapture(model, EXAMPLE)
    recapture()
    model.head.bias.data[0] = torch.nan
    with pytest.raises(CaptureError, match=r"NaN or infinity in head\.bias"):
        recapture()


def test_training_is_not_disturbed(model):
    step(model)
    model.norm.eval()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    state = copy.deepcopy(model.state_dict())
    modes = [part.training for part in model.modules()]
    random = torch.get_rng_state()
    recapture = Recapture(model, EXAMPLE)
    for _ in range(2):
        recapture()
    assert torch.equal(torch.get_rng_state(), random)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
