"""The book of looks at unlabelled samples: counted, shared between books, honest after a crash."""

import itertools
import json
import multiprocessing
from fractions import Fraction

import numpy as np
import pytest
import torch

from bitcert import Preprocessing, Role, Sample, capture, certify
from bitcert.certificates import certification, looks
from bitcert.certificates.certification import Declaration
from bitcert.certificates.looks import LookBook, state_folder
from bitcert.certificates.original import Original
from bitcert.errors import InputError
from bitcert.proof.claims import delta_plan, look_share


@pytest.fixture
def book(tmp_path):
    return LookBook((tmp_path / "state" / "looks.json", tmp_path / ".out.looks.json"))


def test_each_new_pair_is_a_new_look_and_an_old_one_keeps_its_number(book):
    assert [book.enter("sample", pair) for pair in ("a", "b", "a", "c", "b")] == [1, 2, 1, 3, 2]
    assert book.enter("another sample", "a") == 1


def test_the_larger_of_two_books_counts(tmp_path, book):
    book.enter("sample", "a")
    book.enter("sample", "b")
    beside_only = LookBook((tmp_path / "other" / "looks.json", tmp_path / ".out.looks.json"))
    state_only = LookBook((tmp_path / "state" / "looks.json", tmp_path / ".elsewhere.looks.json"))
    assert beside_only.enter("sample", "c") == 3
    assert state_only.enter("sample", "d") == 3, "looks on another machine are not known, and have to be declared"
    assert LookBook(state_only.files, declared=9).enter("sample", "e") == 9
    assert state_only.enter("sample", "f") == 10, "what was declared is remembered"


def test_a_look_declared_larger_than_a_known_one_wins(book):
    assert book.enter("sample", "a") == 1
    assert LookBook(book.files, declared=4).enter("sample", "a") == 4


@pytest.fixture
def toy_original(toy, toy_compressed):
    """Certifies a network's agreement with the toy message, looks counted in the book that is passed."""
    module = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-3.0, 0.0], [2.0, 0.6]]))
    inputs = np.random.default_rng(9).normal(size=(200, 2)).astype(np.float32)
    unlabelled = Sample(inputs, None, 2, Role.UNLABELLED, "more")
    original = Original.of(capture(module, torch.zeros(2, 2)), Preprocessing(), unlabelled)

    def run(looks):
        return certify(toy_compressed, toy, original=original, declared=Declaration(looks=looks))

    return run


def test_the_look_is_in_the_book_before_anything_is_counted(monkeypatch, book, toy_original):
    def count(*args, **kwargs):
        assert next(iter(json.loads(book.files[0].read_text())["samples"].values())).popitem()[1] == 1
        raise RuntimeError("killed")

    monkeypatch.setattr(certification, "count_disagreements", count)
    with pytest.raises(RuntimeError, match="killed"):
        toy_original(book)


def test_each_look_pays_less_and_says_its_number(book, toy_original):
    first = toy_original(book)
    assert (first.original["look"], first.delta_ledger[1][1]) == (1, 0.032)
    again = toy_original(book)
    assert again == first, "the same pair of networks is the same look"
    later = toy_original(LookBook(book.files, declared=5))
    assert later.original["look"] == 5
    assert later.delta_ledger[1][1] == pytest.approx(0.04 / 100, rel=1e-12)
    assert later.original["disagreement_bound"] > first.original["disagreement_bound"]
    assert later.bound > first.bound


def test_without_a_book_looks_are_counted_in_the_state_folder(state_folder, toy_original):
    assert toy_original(None).original["look"] == 1
    assert (state_folder / "looks.json").exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"format": "bitcert-looks-1"}', '{"format": "bitcert-looks-1", "samples": {"s": {"a": 0}}}', "\xff{"],
)
def test_a_book_that_cannot_be_read_is_one_sentence(book, content):
    file = book.files[0]
    file.parent.mkdir(parents=True)
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="looks"):
        book.enter("sample", "a")
    assert file.read_bytes() == content.encode("latin-1"), "nothing is written over it"


@pytest.mark.parametrize("declared", [0, -1, 10**6 + 1])
def test_a_declared_number_out_of_range_is_refused(book, declared):
    with pytest.raises(InputError, match="look"):
        LookBook(book.files, declared).enter("sample", "a")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="BITCERT_STATE"):
        LookBook((tmp_path / "file" / "looks.json",)).enter("sample", "a")


def _enter(files, first):
    for k in range(5):
        LookBook(files).enter("sample", f"{first}.{k}")


def test_processes_that_look_at_once_get_different_numbers(book):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_enter, args=(book.files, first)) for first in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    looks = json.loads(book.files[0].read_text())["samples"]["sample"]
    assert sorted(looks.values()) == list(range(1, 16))


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BITCERT_STATE", str(tmp_path / "own"))
    assert state_folder() == tmp_path / "own"
    monkeypatch.delenv("BITCERT_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_folder() == tmp_path / "state" / "bitcert"
    beside = LookBook.for_output(tmp_path / "results" / "out").files[1]
    assert beside == tmp_path / "results" / ".out.looks.json"


def test_an_empty_variable_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("BITCERT_STATE", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "")
    assert state_folder() == tmp_path / ".local" / "state" / "bitcert"


def test_books_of_an_output_folder(state_folder, monkeypatch, tmp_path):
    assert LookBook.for_output() == LookBook((state_folder / "looks.json",), 1)
    monkeypatch.chdir(tmp_path)
    assert LookBook.for_output("out/", 3) == LookBook(
        (state_folder / "looks.json", tmp_path / ".out.looks.json"), declared=3
    )


def test_a_book_is_written_in_one_form(book):
    book.enter("b", "second")
    book.enter("a", "first")
    expected = {"format": "bitcert-looks-1", "samples": {"a": {"first": 1}, "b": {"second": 1}}}
    for file in book.files:
        assert file.read_text() == json.dumps(expected, indent=1) + "\n"


def test_of_two_numbers_of_a_pair_the_smaller_is_its_look(book):
    for file, number in zip(book.files, (4, 7), strict=True):
        file.parent.mkdir(exist_ok=True)
        looks = {"sample": {"a": number, "b": 2}}
        file.write_text(json.dumps({"format": "bitcert-looks-1", "samples": looks}))
    assert book.enter("sample", "a") == 4
    assert book.enter("sample", "c") == 8, "both books are counted"


MOST = 10**6


@pytest.mark.parametrize("declared", [1, MOST])
def test_looks_up_to_a_million_are_entered(book, declared):
    assert LookBook(book.files, declared).enter("sample", "a") == declared


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"format": "bitcert-looks-2", "samples": {}}, "a file of another kind"),
        ({"format": "bitcert-looks-1", "samples": {}, "more": 1}, "a file of another kind"),
        (["format", "samples"], "a file of another kind"),
        ({"format": "bitcert-looks-1", "samples": []}, "numbers that are no looks"),
        *(
            ({"format": "bitcert-looks-1", "samples": {"t": {"b": 1}, "s": looks}}, "numbers that are no looks")
            for looks in ([], 3, {"a": 0}, {"a": MOST + 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": 1, "b": None})
        ),
    ],
)
def test_why_a_book_is_none(book, content, said):
    file = book.files[0]
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"got {said} at .*looks.json; set BITCERT_STATE"):
        book.enter("sample", "a")


@pytest.mark.parametrize("looks", [{}, {"b": 1}, {"b": MOST}])
def test_a_book_at_its_limits_is_read(book, looks):
    file = book.files[0]
    file.parent.mkdir()
    text = json.dumps({"format": "bitcert-looks-1", "samples": {"another": looks}})
    file.write_text(text + " " * ((1 << 20) - len(text)))
    assert book.enter("sample", "a") == 1
    file.write_text(text + " " * ((1 << 20) + 1 - len(text)))
    with pytest.raises(InputError, match="got more than 1,048,576 bytes at"):
        book.enter("sample", "a")


def test_a_book_in_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "looks.json").mkdir()
    with pytest.raises(InputError, match="BITCERT_STATE") as refusal:
        LookBook((tmp_path / "looks.json",)).enter("sample", "a")
    assert "Is a directory" in str(refusal.value)


def test_a_full_disk_is_one_sentence(monkeypatch, book):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=f"got No space left on device at {book.files[0]}"):
        book.enter("sample", "a")
    assert not book.files[0].exists()


def test_the_shares_of_all_looks_add_up_to_one():
    shares = [look_share(look) for look in range(1, 2001)]
    assert 1 - sum(shares) == Fraction(1, 5 * 2000), "what is left goes to zero"
    assert all(earlier > later > 0 for earlier, later in itertools.pairwise(shares))


@pytest.mark.parametrize("look", [1, 2, 3, 12, 10**6])
def test_a_look_spends_its_share_and_never_more(look):
    plan = delta_plan(0.05, ["brier"], look)
    part = Fraction("0.05") / 2 * Fraction(4, 5) * look_share(look)
    assert plan[1].name.endswith(f"look {look}")
    assert part * (1 - Fraction(1, 10**12)) < Fraction(plan[1].amount) <= part + Fraction(1, 2**60)
    assert sum(Fraction(repr(entry.amount)) for entry in plan) <= Fraction("0.05")


@pytest.mark.parametrize("look", [0, -1, 10**6 + 1, 1.0, True])
def test_a_look_out_of_range_is_refused(look):
    with pytest.raises(InputError, match="look"):
        look_share(look)


def test_books_are_held_while_they_are_read_and_written(monkeypatch, book):
    held = []
    real = looks.locked
    monkeypatch.setattr(looks, "locked", lambda path: held.append(path.name) or real(path))
    book.enter("sample", "a")
    assert held == [".out.looks.json.entry", "looks.json.entry"]


def test_a_book_may_lie_in_a_folder_that_is_not_there_yet(tmp_path):
    assert LookBook((tmp_path / "a" / "b" / "looks.json",)).enter("sample", "a") == 1


@pytest.mark.parametrize("function", ["locked", "replacing"])
@pytest.mark.parametrize(
    ("error", "said"), [(OSError("strange"), "strange"), (OSError(13, "Permission denied"), "Permission denied")]
)
def test_what_the_system_says_is_told(monkeypatch, book, function, error, said):
    def fails(path):
        raise error

    monkeypatch.setattr(looks, function, fails)
    with pytest.raises(InputError, match=f"got {said} at {book.files[1].parent}"):
        book.enter("sample", "a")
