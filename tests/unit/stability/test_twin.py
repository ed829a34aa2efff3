"""The untrained twin: He-normal by name, or the user's own initial state."""

import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.stability import initial_network, random_twin


class Normed(nn.Module):
    """A convolution with a batch norm that folds, one that cannot, and a PReLU."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 200, 3, bias=False)
        self.norm = nn.BatchNorm2d(200)
        self.slope = nn.PReLU()
        self.late = nn.BatchNorm1d(200)
        self.head = nn.Linear(200, 4)

    def forward(self, x):
        x = self.slope(self.norm(self.conv(x)))
        return self.head(self.late(x.mean((2, 3))))


def captured(seed: int) -> Network:
    torch.manual_seed(seed)
    model = Normed()
    for norm in (model.norm, model.late):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
    return capture(model, torch.randn(4, 3, 6, 6))


@pytest.fixture(scope="module")
def network() -> Network:
    return captured(0)


def test_he_normal_weights_and_plain_other_parameters(network):
    twin = random_twin(network, 0)
    assert twin.architecture == network.architecture
    conv, head = twin.parameters["conv.weight"], twin.parameters["head.weight"]
    assert float(conv.std()) == pytest.approx((2 / 27) ** 0.5, rel=0.05)
    assert float(head.std()) == pytest.approx((2 / 200) ** 0.5, rel=0.1)
    assert abs(float(conv.mean())) < 0.02
    for spec in network.architecture.parameters:
        value = twin.parameters[spec.name]
        assert value.dtype == network.parameters[spec.name].dtype
        if spec.kind == "bias":
            assert not value.any()
        if spec.kind == "scale":
            assert bool((value == (0.25 if spec.name == "slope.weight" else 1.0)).all())
    assert {spec.kind for spec in network.architecture.parameters} == {"weight", "bias", "scale"}


def test_the_twin_depends_on_the_seed_alone(network):
    one, two, other = random_twin(network, 3), random_twin(captured(1), 3), random_twin(network, 4)
    assert torch.equal(one.parameters["conv.weight"], two.parameters["conv.weight"])
    assert not torch.equal(one.parameters["conv.weight"], other.parameters["conv.weight"])


def test_global_random_state_is_left_alone(network):
    state = torch.get_rng_state()
    random_twin(network, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_initial_weights_captured_alike(network):
    init = captured(1)
    for given in (init, init.parameters):
        found = initial_network(network, given)
        assert found.architecture == network.architecture
        assert all(torch.equal(found.parameters[name], init.parameters[name]) for name in init.parameters)


def test_a_raw_state_dict_of_a_network_with_batch_norm_is_refused(network):
    with pytest.raises(InputError, match="batch norms are folded alike"):
        initial_network(network, Normed().state_dict())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v: v.pop("head.bias"), "1 missing \\('head.bias'\\)"),
        (lambda v: v.update(extra=torch.zeros(1)), "1 unknown \\('extra'\\)"),
        (lambda v: v.update({"head.bias": torch.zeros(5)}), "shape \\[4\\], got shape \\[5\\]"),
        (lambda v: v.update({"head.bias": torch.full((4,), torch.nan)}), "NaN or infinity in 'head.bias'"),
    ],
)
def test_initial_weights_that_do_not_fit_are_named(network, change, text):
    values = dict(network.parameters)
    change(values)
    with pytest.raises(InputError, match=text):
        initial_network(network, values)


def test_initial_weights_of_another_architecture_are_refused(network):
    other = capture(nn.Linear(3, 2), torch.zeros(2, 3))
    with pytest.raises(InputError, match="another one"):
        initial_network(network, other)
