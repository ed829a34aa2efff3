"""Tables through every verb: what is declared beforehand is stated, charged, and asked for again."""

import json

import numpy as np
import pytest

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
"""
SCHEMA = {"columns": [{"name": "id", "use": False}, {"name": "kind", "categories": ["low", "high"]}]}
READ = ("--label", "late", "--class-names", "no,yes")


def table(rows, seed, label=True):
    """A table of the label ``late``, which ``delay`` says nearly."""
    rng = np.random.default_rng(seed)
    lines = ["id,kind,delay,hour" + (",late" if label else "")]
    for k in range(rows):
        delay = rng.normal()
        late = "yes" if delay + 0.1 * rng.normal() > 0 else "no"
        kind = "high" if rng.random() < 0.5 else "low"
        lines.append(f"r{seed}-{k},{kind},{delay:.6f},{rng.integers(24)}" + (f",{late}" if label else ""))
    return "\n".join(lines) + "\n"


def permuted(text, order):
    return "".join(",".join(line.split(",")[k] for k in order) + "\n" for line in text.splitlines())


@pytest.fixture
def files(here):
    (here / "own.py").write_text(FACTORY)
    (here / "t.csv").write_text(table(300, 1))
    (here / "permuted.csv").write_text(permuted(table(300, 1), [4, 2, 0, 3, 1]))
    (here / "held.csv").write_text(permuted(table(100, 2), [4, 2, 0, 3, 1]))
    (here / "bare.csv").write_text(table(100, 3, label=False))
    (here / "s.json").write_text(json.dumps(SCHEMA))
    full = [*SCHEMA["columns"], {"name": "delay"}, {"name": "hour"}]
    (here / "full.json").write_text(json.dumps({"columns": full, "label": "late", "classes": ["no", "yes"]}))
    (here / "other.json").write_text(json.dumps({"columns": SCHEMA["columns"][::-1]}))
    return here


def made(bitcert, here, *arguments):
    outcome = bitcert("certify", *arguments, "--data", "t.csv", "--budget", 0.2)
    assert outcome.code == 0, outcome.err
    return json.loads((here / "out" / "certificate.json").read_text())


def test_label_and_classes_are_stated_and_need_not_be_said_again(bitcert, files):
    found = made(bitcert, files, *READ, "--holdout", "held.csv")
    table = found["data"]["table"]
    assert table.pop("columns") == [
        name for name in (files / "t.csv").read_text().splitlines()[0].split(",") if name != "late"
    ]
    assert table == {"label": "late", "classes": ["no", "yes"], "schema": None}
    assert found["data"]["name"] == "t.csv"
    assert found["holdout"]["samples"] == 100
    assert dict(found["helper_sections"])["schema"] > 0
    said = "for `bound` only: the label 'late' and the names of its 2 classes were chosen before the data were seen"
    assert said in found["conditions"]
    outcome = bitcert("verify", "out/certificate.json", "--data", "t.csv")
    assert outcome.code == 0, outcome.out
    assert said.partition(": ")[2] in outcome.out
    assert bitcert("verify", "out/certificate.json", "--data", "t.csv", "--label", "late").code == 0


def test_a_schema_is_named_by_its_hash_and_asked_for(bitcert, files):
    found = made(bitcert, files, *READ, "--schema", "s.json", "--holdout", "held.csv")
    digest = found["data"]["table"]["schema"]
    assert len(digest) == 64
    assert any(f"the schema (SHA-256 {digest}) were chosen before" in each for each in found["conditions"])
    verify = ("verify", "out/certificate.json", "--data", "t.csv")
    assert bitcert(*verify, "--schema", "s.json").code == 0
    for given, got in (((), "none"), (("--schema", "other.json"), "SHA-256 ")):
        outcome = bitcert(*verify, *given)
        assert outcome.code == 2
        last = outcome.out.splitlines()[-1]
        assert (
            f"CANNOT CHECK: expected the schema that the data were certified with (that of SHA-256 {digest[:16]}"
            in last
        )
        assert f"got {'that of ' if given else ''}{got}" in last
        assert "; pass the same one with --schema" in last
    assert "'late'" not in bitcert(*verify, "--schema", "gone.json").out
    assert bitcert(*verify, "--schema", "s.json", "--label", "hour").code == 2


def test_a_complete_schema_reads_permuted_columns_alike(bitcert, files):
    found = made(bitcert, files, "--schema", "full.json")
    outcome = bitcert("verify", "out/certificate.json", "--data", "permuted.csv", "--schema", "full.json")
    assert outcome.code == 0, outcome.out
    (files / "t.csv").write_text((files / "permuted.csv").read_text())
    assert made(bitcert, files, "--schema", "full.json") == found


def test_a_schema_that_was_not_certified_with_is_refused(bitcert, files):
    made(bitcert, files, *READ)
    outcome = bitcert("verify", "out/certificate.json", "--data", "t.csv", "--schema", "s.json")
    assert outcome.code == 2
    assert "certified with (none), got that of SHA-256" in outcome.out
    outcome = bitcert("verify", "out/certificate.json", "--data", "t.csv", "--label", "hour")
    assert outcome.code == 2


CASES = {
    "no network": (),
    "a network": ("own:make",),
    "a codec": ("own:make", "--codec", "quantise"),
    "a search": ("--effort", "quick"),
    "a prior part": ("own:make", "--prior-split", 0.5),
}


@pytest.mark.parametrize("case", CASES)
def test_every_way_to_compress_commits_to_the_table(bitcert, files, case):
    read = (*READ, "--schema", "s.json")
    model = {"a search": (), "a codec": ("own:make",)}.get(case, CASES[case])
    published = bitcert("helper", *model, *read, "--data", "t.csv", "--hash").out.strip()
    found = made(bitcert, files, *CASES[case], *read)
    assert found["data"]["table"]["schema"] is not None
    assert found["helper"]["table"]
    assert found["commitment"]["hash"] == published
    checked = ("verify", "out/certificate.json", "--data", "t.csv", "--schema", "s.json", "--commitment", published)
    outcome = bitcert(*checked)
    assert outcome.code == 0, outcome.out
    read = (*READ, "--schema", "other.json")
    other = bitcert("helper", *model, *read, "--data", "t.csv", "--hash").out.strip()
    assert other != published
    assert bitcert(*checked[:-1], other).code == 1


def test_the_original_network_on_an_unlabelled_table(bitcert, files):
    made(bitcert, files, "own:make", *READ, "--schema", "s.json", "--unlabelled", "bare.csv")
    verify = ("verify", "out/certificate.json", "--data", "t.csv", "--schema", "s.json", "--original", "own:make")
    outcome = bitcert(*verify, "--unlabelled", "bare.csv")
    assert outcome.code == 0, outcome.out
    assert "ok   unlabelled data: 100 claimed" in outcome.out


def test_check_and_compress_read_tables(bitcert, files):
    assert "Plan for 300 samples" in bitcert("check", "own:make", "--data", "t.csv", *READ, "--schema", "s.json").out
    read = (*READ, "--schema", "s.json")
    outcome = bitcert("compress", "own:make", "--data", "t.csv", *read, "--codec", "quantise", "--budget", 0.2)
    assert outcome.code == 0, outcome.err
    hint = " ".join(outcome.out.partition("To certify it: ")[2].split())
    assert "--data t.csv --label late --schema s.json --class-names no,yes" in hint


def change(here, **table_facts):
    """The certificate with other facts of its table, its checksum made anew."""
    from bitcert import Certificate

    path = here / "out" / "certificate.json"
    certificate = Certificate.from_json(path.read_text())
    data = dict(certificate.data)
    data["table"] = {**data["table"], **table_facts}
    object.__setattr__(certificate, "data", {k: v for k, v in data.items() if table_facts or k != "table"})
    path.write_text(certificate.to_json())


@pytest.mark.parametrize(
    ("facts", "code", "says"),
    [
        ({}, 2, "the data"),
        ({"label": "hour"}, 2, "one of the classes 'no', 'yes' in row"),
        ({"label": 3}, 1, "data description: classes, label, schema of its table were expected"),
        ({"more": 3}, 1, "data description: classes, label, schema of its table were expected"),
        ({"classes": "no"}, 1, "data description"),
        ({"classes": ["no"]}, 1, "data description"),
        ({"classes": ["yes", "no"]}, 2, "hashes differ"),
        ({"classes": None}, 2, "--class-names"),
        ({"schema": "0" * 64}, 2, "expected the schema"),
    ],
)
def test_a_certificate_that_says_something_else_of_its_table(bitcert, files, facts, code, says):
    made(bitcert, files, *READ)
    change(files, **facts)
    outcome = bitcert("verify", "out/certificate.json", "--data", "t.csv")
    assert outcome.code == code, outcome.out
    assert says in outcome.out.splitlines()[-1]


def test_numbers_alone_are_not_the_table(bitcert, files):
    from bitcert import Role, Status, load_sample, verify

    made(bitcert, files, *READ)
    sample = load_sample("t.csv", Role.TRAIN, label="late", schema={"classes": ["no", "yes"]})
    assert verify("out/certificate.json", sample).status is Status.VALID
    np.savez("t.npz", x=sample.inputs, y=sample.labels)
    bare = load_sample("t.npz", Role.TRAIN)
    found = verify("out/certificate.json", bare)
    assert (found.status, "are a table" in found.reason) == (Status.CANNOT_CHECK, True)
    assert bitcert("certify", "--data", "t.npz", "--budget", 0.2, "--out", "bare").code == 0
    found = verify("bare/certificate.json", sample)
    assert (found.status, "numbers of no table" in found.reason) == (Status.CANNOT_CHECK, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--data", "t.csv"), "name it with --label: 'id', 'kind', 'delay', 'hour', 'late'"),
        (("--data", "t.csv", "--label", "late"), "e.g. --class-names no,yes"),
        (("--data", "t.csv", "--label", "late", "--schema", "gone.json"), "gone.json"),
        (("--data", "t.csv", "--label", "hour", "--schema", "full.json"), "one label of the table"),
        (("--data", "t.csv", *READ, "--classes", 3), "2 classes, as they are named"),
        (("--data", "digits", *READ), "a table in a .csv or .parquet file"),
        (("--data", "t.csv", *READ, "--holdout", "bare.csv"), "the name of the label's column"),
        (
            ("--data", "t.csv", *READ, "--schema", "s.json", "--unlabelled", "t.csv", "own:make"),
            "no example in two samples",
        ),
    ],
)
def test_what_cannot_be_read_is_one_sentence(refused, files, arguments, says):
    refused("certify", *arguments, says=says)


def test_a_shape_has_no_label(refused, files):
    refused("helper", "--shape", "3", "--floats", *READ, says="--data for --label")


def test_texts_without_a_schema_are_told_with_the_remedy(bitcert, files):
    first = bitcert("check", "own:make", "--data", "t.csv", *READ)
    assert 'texts of column "kind" are read as hash buckets' in " ".join(first.err.split())  # "id" has no text twice
    assert "--schema schema.json" in " ".join(first.err.split())
    declared = bitcert("check", "own:make", "--data", "t.csv", *READ, "--schema", "s.json")
    assert "hash buckets" not in declared.err
