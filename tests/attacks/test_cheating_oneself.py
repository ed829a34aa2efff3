"""Six ways to fool oneself into a bound that is too good, and random labels: each is refused, charged or seen.

The frequencies are simulated in ``tests/validity`` (each honest claim has a broken twin there); what a stranger's files
may say is in ``test_further_claims_attacks.py`` and ``test_certificate_attacks.py``. Here is what the program itself
does when its user, or one of its own parts, tries:

1. selection after the fact without bits;
2. augmented data in the count;
3. a helper that saw the data (and a split other than the declared one);
4. unlabelled examples that overlap the training data;
5. two budgets from one delta;
6. a surrogate tuned on the unlabelled sample.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from bitcert import Compressed, Helper, Preprocessing, Role, Run, Sample, Status, capture, certify, load_sample, verify
from bitcert.certificates.original import Original, check_unlabelled
from bitcert.data import PriorSplit
from bitcert.decoder import HelperWeights, decode_message
from bitcert.decoder import head as bank_head
from bitcert.errors import BudgetError, InputError, SampleReuseError
from bitcert.proof import ConfidenceBudget, holdout_bound, occam_bound
from bitcert.proof.claims import bounded_loss_bound, delta_plan
from bitcert.report import terminal_summary
from bitcert.run import Checkpoint
from bitcert.search import Contender, Judge, search
from bitcert.search.compression import (
    PRIOR_FILE,
    certify_best,
    check_early,
    find_message,
    search_checkpoint,
    train_helper,
)
from bitcert.search.request import CertifyRequest

SECONDS = 0.1


def points(num: int, seed: int, role: Role = Role.TRAIN) -> Sample:
    """Points [4]; the class is the sign of the first two numbers' sum, wrong once in ten."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, 4)).astype(np.float32)
    labels = ((inputs[:, 0] + inputs[:, 1] > 0) ^ (rng.random(num) < 0.1)).astype(np.int64)
    return Sample(inputs, None if role is Role.UNLABELLED else labels, 2, role, f"points {seed}")


def linear(weights: list[list[float]]) -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(weights))
        module[0].bias.copy_(torch.tensor([0.01, -0.01]))
    return module


def captured(module: nn.Module):
    return capture(module, torch.zeros(2, 4))


TRAIN, APART = points(800, 0), points(400, 1, Role.UNLABELLED)
TRAINED = captured(linear([[-1.0, -1, 0.01, 0.02], [1, 1, 0.03, 0.01]]))


def head(sample: Sample, helper: Helper | None = None, weight: int = 1) -> Compressed:
    helper = helper or Helper.for_sample(sample)
    weights = np.zeros((5, 2), np.int64)
    weights[:2, 1] = weight
    message, ledger = bank_head.write(None, weights, helper)
    return Compressed(message, ledger, helper)


def files(folder, compressed: Compressed, certificate):
    (folder / "message.bin").write_bytes(compressed.message)
    path = folder / "certificate.json"
    path.write_text(certificate.to_json())
    return path


# 1. Selection after the fact without bits


def tried(sample: Sample, compress, helper: Helper | None = None) -> Compressed:
    contender = Contender("mine", bank_head.FAMILY, compress, helper or Helper.for_sample(sample))
    run = Run(budget_seconds=SECONDS)
    return search([contender], sample, Judge(sample, run.delta), run)


def test_every_message_of_a_search_is_charged_with_the_bits_of_its_file():
    """A contender that books no bits for its message, or fewer errors, gets no better certificate."""

    def lying(sample: Sample, helper: Helper, run: Run) -> Compressed:
        run.consider("free of charge", 0, len(sample), 8)
        return replace(head(sample, helper), candidates=tuple(run.candidates))

    found = tried(TRAIN, lying)
    certificate = certify(found, TRAIN)
    assert certificate.message_bits == 8 * len(found.message) > 8
    assert certificate.errors > 50
    assert certificate.bound == occam_bound(certificate.errors, 800, certificate.message_bits, 0.05).binomial


def test_a_helper_chosen_among_several_after_the_data_were_seen_is_refused():
    """The scale of the inputs is part of the helper: to try some and keep the best is a choice without bits."""

    def tuned(sample: Sample, helper: Helper, run: Run) -> Compressed:
        return head(sample, replace(helper, preprocessing=Preprocessing(scale=3.0)))

    with pytest.raises(InputError, match="helper that were declared"):
        tried(TRAIN, tuned)


def test_two_helpers_for_one_family_are_refused():
    helpers = [Helper.for_sample(TRAIN), Helper.for_sample(TRAIN, None, Preprocessing(scale=3.0))]
    rivals = [
        Contender(f"scale {k}", bank_head.FAMILY, lambda s, h, r: head(s, h), helper)
        for k, helper in enumerate(helpers)
    ]
    run = Run(budget_seconds=SECONDS)
    with pytest.raises(InputError, match="one helper string"):
        search(rivals, TRAIN, Judge(TRAIN, run.delta), run)


# 2. Augmented data in the count


def augmented(sample: Sample, copies: int) -> Sample:
    rng = np.random.default_rng(9)
    noisy = [sample.inputs + 0.01 * rng.normal(size=sample.inputs.shape).astype(np.float32) for _ in range(copies)]
    inputs = np.concatenate([sample.inputs, *noisy])
    return Sample(inputs, np.tile(sample.labels, copies + 1), 2, Role.TRAIN, sample.name)


def test_augmented_copies_do_not_verify_on_the_data_as_given(tmp_path, forge):
    many, compressed = augmented(TRAIN, 4), head(TRAIN)
    inflated = certify(compressed, many)
    assert inflated.bound < certify(compressed, TRAIN).bound, "or there would be nothing to gain"
    path = files(tmp_path, compressed, inflated)
    outcome = verify(path, TRAIN)
    assert outcome.status is Status.CANNOT_CHECK
    assert "not those of the certificate" in outcome.reason
    forge(path, lambda content: content["data"].update(hash=TRAIN.content_hash))
    outcome = verify(path, TRAIN)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith("samples: 4000 claimed, 800 counted")


def test_copies_in_the_users_own_data_are_told(tmp_path):
    """No program can tell copies from draws that repeat themselves, but it can say that there are many."""
    doubled = Sample(np.tile(TRAIN.inputs, (2, 1)), np.tile(TRAIN.labels, 2), 2, Role.TRAIN, "doubled")
    compressed = head(TRAIN)
    notes = []
    for sample in (TRAIN, doubled):
        outcome = verify(files(tmp_path, compressed, certify(compressed, sample)), sample)
        assert outcome.status is Status.VALID
        notes.append([line.detail for line in outcome.lines if line.name == "repeated examples" and not line.checked])
    assert not notes[0]
    assert "100.0% of the examples occur more than once" in notes[1][0]


def test_what_a_compressor_trains_on_is_not_what_is_counted():
    """A compressor may augment as it likes: the errors are those of the decoded message on the sample as given."""

    def augmenting(sample: Sample, helper: Helper, run: Run) -> Compressed:
        run.consider("on more data", 1, 5 * len(sample), 8)
        return replace(head(augmented(sample, 4), helper), candidates=tuple(run.candidates))

    found = tried(TRAIN, augmenting)
    certificate = certify(found, TRAIN)
    decoded = decode_message(found.message, found.helper).classifier
    wrong = int((decoded(TRAIN.inputs).argmax(1).numpy() != TRAIN.labels).sum())
    assert (certificate.errors, certificate.samples) == (wrong, len(TRAIN))


# 3. A helper that saw the data


def same_under_other_names() -> nn.Module:
    """The trained network's numbers inside a larger network with other names."""
    module = nn.Sequential(nn.Identity(), linear([[0.0] * 4] * 2)[0], nn.ReLU(), nn.Linear(2, 3))
    with torch.no_grad():
        for own, value in zip(module[1].parameters(), TRAINED.parameters.values(), strict=True):
            own.copy_(value)
    return module


def sorted_values(network) -> list[torch.Tensor]:
    return [network.parameters[name] for name in sorted(network.parameters)]


@pytest.mark.parametrize("unlabelled", [None, APART])
def test_helper_weights_that_are_the_trained_network_are_refused(unlabelled):
    hidden = captured(same_under_other_names())
    assert hidden.architecture.content_hash != TRAINED.architecture.content_hash
    for helper in (TRAINED, hidden):
        request = CertifyRequest(TRAIN, TRAINED, helper_network=helper, unlabelled=unlabelled)
        with pytest.raises(InputError, match="fixed before the data were seen"):
            certify_best(request, Run(budget_seconds=SECONDS))


def test_helper_weights_that_the_network_was_fine_tuned_from_are_let_pass():
    """Some layers may be the same: frozen ones are."""
    values = dict(TRAINED.parameters)
    name = next(iter(values))
    values[name] = values[name] + 1e-3
    check_early(CertifyRequest(TRAIN, TRAINED, helper_network=replace(TRAINED, parameters=values)))
    check_early(CertifyRequest(TRAIN, helper_network=TRAINED))


def test_trained_weights_put_in_the_place_of_the_helpers_are_noticed(tmp_path):
    """The certificate states the hash of what the helper held when it was made."""
    from bitcert.decoder.network_head import Form, NetworkHeadCode, write

    public = captured(linear([[-1.0, 0, 0, 0], [1, 0, 0, 0]]))
    weights = [HelperWeights.of(net.architecture, net.parameters) for net in (public, TRAINED)]
    helper = Helper.for_sample(TRAIN, public.architecture, Preprocessing(), weights[0])
    compressed = Compressed(*write(helper, NetworkHeadCode(Form.NETWORK)), helper)
    path = files(tmp_path, compressed, certify(compressed, TRAIN))
    (tmp_path / "architecture.json").write_text(public.architecture.to_json())
    for held, status in zip(weights, (Status.VALID, Status.INVALID), strict=True):
        (tmp_path / "helper.safetensors").write_bytes(held.to_bytes())
        outcome = verify(path, TRAIN)
        assert outcome.status is status, outcome.reason
    assert outcome.reason.startswith("helper weights:")


def test_a_helper_of_another_split_is_not_taken_over(tmp_path):
    """A network trained on another split has seen examples of this one's rest: its checkpoint is not used."""
    declared = CertifyRequest(TRAIN, prior_fraction=0.5, prior_model=linear([[0.0] * 4] * 2))
    other = replace(declared, prior_seed=1)
    found = []
    for request in (other, declared):
        checkpoint = search_checkpoint(tmp_path / "out", request, 0)
        run = Run(budget_seconds=SECONDS, checkpoint=checkpoint)
        kept = Checkpoint(checkpoint.path.with_name(PRIOR_FILE), request.prior_identity(0))
        assert kept.load() is None, "nothing of another split is found"
        network = train_helper(PriorSplit.of(TRAIN, 0.5, request.prior_seed), request, run)
        assert kept.load() is not None
        found.append(network.parameters)
    assert any(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_only_the_rest_of_the_declared_split_is_counted():
    split = PriorSplit.of(TRAIN, 0.5).with_helper(lambda x: TRAINED(torch.tensor(x)))
    other = PriorSplit.of(TRAIN, 0.5, 1)
    compressed = head(split.rest)
    for sample in (split.prior.with_role(Role.TRAIN), TRAIN, other.rest):
        with pytest.raises(SampleReuseError, match="rest of the prior split"):
            certify(compressed, sample, prior=split)


# 4. Unlabelled examples that overlap the training data


def test_one_training_example_among_the_unlabelled_ones_is_refused():
    mixed = Sample(np.concatenate([APART.inputs, TRAIN.inputs[:1]]), None, 2, Role.UNLABELLED, "mixed")
    request = CertifyRequest(TRAIN, TRAINED, unlabelled=mixed)
    with pytest.raises(SampleReuseError, match="1 of the 401"):
        certify_best(request, Run(budget_seconds=SECONDS))
    original = Original.of(TRAINED, Preprocessing(), mixed)
    with pytest.raises(SampleReuseError, match="1 of the 401"):
        certify(head(TRAIN), TRAIN, original=original)


def test_the_prior_part_is_overlap_too():
    split = PriorSplit.of(TRAIN, 0.5).with_helper(lambda x: TRAINED(torch.tensor(x)))
    reused = Sample(split.prior.inputs[:50], None, 2, Role.UNLABELLED, "reused")
    with pytest.raises(SampleReuseError, match="50 of the 50"):
        certify(head(split.rest), split.rest, prior=split, original=Original.of(TRAINED, Preprocessing(), reused))


def test_the_same_pictures_as_floats_are_the_same_examples():
    rng = np.random.default_rng(0)
    pictures = Sample(rng.integers(0, 256, (300, 1, 4, 4), dtype=np.uint8), np.arange(300) % 2, 2, Role.TRAIN, "mine")
    floats = Sample(pictures.inputs[:30].astype(np.float32), None, 2, Role.UNLABELLED, "floats")
    for unlabelled, train in ((floats, pictures), (replace(pictures, role=Role.UNLABELLED), floats_of(pictures))):
        with pytest.raises(SampleReuseError):
            check_unlabelled(unlabelled, train)


def floats_of(sample: Sample) -> Sample:
    return replace(sample, inputs=sample.inputs.astype(np.float32))


# 5. Two budgets from one delta


def test_all_claims_of_a_certificate_share_one_delta():
    original, losses = Original.of(TRAINED, Preprocessing(), APART), ("brier", "margin:1")
    compressed = head(TRAIN)
    found = certify(compressed, TRAIN, original=original, losses=losses, delta=0.05)
    amounts = [amount for _, amount in found.delta_ledger]
    assert len(amounts) == 4
    assert sum(amounts) <= 0.05
    assert found.bounds["binomial"] == occam_bound(found.errors, 800, found.message_bits, amounts[0]).binomial
    counted = found.original["disagreements"], len(APART)
    assert found.original["disagreement_bound"] == holdout_bound(*counted, amounts[1])
    brier = found.losses[0]
    assert brier["bound"] == bounded_loss_bound(brier["total"], 800, found.message_bits, amounts[2])
    alone = certify(compressed, TRAIN, original=original, delta=0.05)
    assert alone.bound < found.bound, "whoever claims more gets less of each"


def test_a_search_compares_at_the_part_that_the_certificate_pays():
    request = CertifyRequest(TRAIN, TRAINED, unlabelled=APART, losses=("brier",))
    assert request.search_delta == delta_plan(0.05, ["brier"], look=1)[0].amount < 0.01


def test_a_budget_is_not_spent_twice():
    budget = ConfidenceBudget(0.05)
    budget.withdraw("the bound", 0.05)
    with pytest.raises(BudgetError):
        budget.withdraw("the same again", 0.05)


# 6. A surrogate tuned on the unlabelled sample


@pytest.mark.parametrize("prior", [None, 0.5])
def test_the_surrogate_is_found_without_a_look_at_the_unlabelled_sample(prior, sealed):
    request = CertifyRequest(TRAIN, TRAINED, unlabelled=APART, prior_fraction=prior)
    object.__setattr__(request, "unlabelled", sealed(len(APART)))
    _, found = find_message(request, Run(budget_seconds=SECONDS, delta=request.search_delta))
    assert found.message


def test_other_unlabelled_examples_are_the_same_search_and_more_of_them_another():
    """A search is prolonged by its checkpoint: what it depends on has no place for the unlabelled examples."""
    requests = [CertifyRequest(TRAIN, TRAINED, unlabelled=points(n, seed, Role.UNLABELLED)) for n, seed in
                ((400, 1), (400, 2), (401, 1))]  # fmt: skip
    first, other, more = (request.identity(0) for request in requests)
    assert first == other != more


# Random labels


def words(certificate) -> str:
    console = Console(width=100, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_summary(certificate))
    return " ".join(console.export_text().split())


def test_a_search_on_permuted_labels_ends_without_a_claim_and_says_so(ticking):
    ticking(0.01)
    digits = load_sample("digits", Role.TRAIN)
    labels = np.random.default_rng(0).permutation(digits.labels)
    noise = Sample(digits.inputs[:400], labels[:400], 10, Role.TRAIN, "digits")
    certificate = certify_best(CertifyRequest(noise), Run(budget_seconds=1.0)).certificate
    assert certificate.bound >= 0.9, "every classifier is wrong on nine in ten"
    assert "says no more than guessing" in words(certificate)


def coins(num: int, seed: int, role: Role = Role.TRAIN) -> Sample:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, 80)).astype(np.float32)
    return Sample(inputs, None if role is Role.UNLABELLED else rng.integers(0, 2, num), 2, role, f"coins {seed}")


def memory(sample: Sample):
    """A linear network that is right on every one of at most 80 examples."""
    targets = np.stack([1.0 - 2.0 * sample.labels, 2.0 * sample.labels - 1.0], 1)
    solution, *_ = np.linalg.lstsq(sample.inputs.astype(np.float64), targets, rcond=None)
    module = nn.Sequential(nn.Linear(80, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(solution.T, dtype=torch.float32))
        module[0].bias.zero_()
    return capture(module, torch.zeros(2, 80))


@pytest.mark.parametrize("prior", [None, 0.5])
def test_an_original_that_knows_random_labels_by_heart_is_not_certified(prior):
    """It is right on all of its training data and wrong on half of all others."""
    for seed in range(3):
        sample = coins(70, seed)
        network = memory(sample)
        assert int((network(torch.tensor(sample.inputs)).argmax(1).numpy() != sample.labels).sum()) == 0
        request = CertifyRequest(
            sample, network, unlabelled=coins(300, 50 + seed, Role.UNLABELLED), prior_fraction=prior
        )
        assert certify_best(request, Run(budget_seconds=SECONDS)).certificate.bound >= 0.5


def test_a_helper_that_knows_the_prior_part_by_heart_is_not_certified():
    for seed in range(3):
        request = CertifyRequest(coins(140, seed), prior_fraction=0.5, prior_model=nn.Sequential(nn.Linear(80, 2)))
        certificate = certify_best(request, Run(budget_seconds=2 * SECONDS)).certificate
        assert certificate.bound >= 0.5
