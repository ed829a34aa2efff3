"""What a user gets: files, one JSON object, exit codes, and a sentence."""

import json

import numpy as np
import pytest

from bitcert import Certificate

KEYS = {"bound", "delta", "errors", "near_ties", "samples", "message_bits", "certifies", "theorem"}


def certify(bitcert, *arguments):
    outcome = bitcert("certify", "--budget", "0.05", *arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def test_files_and_sentence(bitcert, here, drawn):
    outcome = certify(bitcert)
    assert {path.name for path in (here / "out").iterdir()} == {"message.bin", "certificate.json", "report.html"}
    assert [path.name for path in here.iterdir()] == ["out"], "no checkpoint is left"
    certificate = Certificate.from_json((here / "out" / "certificate.json").read_text())
    assert certificate.data["name"] == "digits"
    assert certificate.message_bits == 8 * (here / "out" / "message.bin").stat().st_size
    assert certificate.sentence in " ".join(outcome.out.split())
    assert "certificate.json" in outcome.out
    assert (here / "out" / "report.html").read_text().count("<svg") == 3
    assert outcome.failures == []
    assert bitcert("verify", "out/certificate.json").code == 0


def test_json_is_one_object_and_nothing_else(bitcert, here, toy_data):
    outcome = certify(bitcert, "--data", toy_data, "--json", "--delta", "0.1", "--out", "there/it")
    content = json.loads(outcome.out)
    assert content.keys() >= KEYS
    assert content["delta"] == 0.1
    assert content["certifies"] == "compressed"
    assert outcome.out == (here / "there" / "it" / "certificate.json").read_text()


def test_the_same_command_gives_the_same_message(bitcert, here, toy_data):
    certify(bitcert, "--data", toy_data, "--budget", "1")
    first = (here / "out" / "certificate.json").read_bytes()
    certify(bitcert, "--data", toy_data, "--budget", "1")
    assert (here / "out" / "certificate.json").read_bytes() == first


def test_held_out_labels_are_compared(bitcert, here, toy_data):
    rng = np.random.default_rng(7)
    held = rng.normal(size=(150, 2)).astype(np.float32)
    np.savez(here / "held.npz", x=held, y=(held[:, 0] > 0).astype(np.int64))
    outcome = certify(bitcert, "--data", toy_data, "--holdout", "held.npz", "--json")
    line = json.loads(outcome.out)["holdout"]
    assert line["samples"] == 150
    assert 0 < line["bound"] < 0.2


def test_data_with_stated_classes(bitcert, here, toy_data):
    inferred = json.loads(certify(bitcert, "--data", toy_data, "--json").out)
    stated = json.loads(certify(bitcert, "--data", toy_data, "--json", "--classes", "2").out)
    assert "number of classes" in dict(inferred["sections"])
    assert "number of classes" not in dict(stated["sections"])
    assert bitcert("verify", "out/certificate.json", "--data", toy_data).code == 0


@pytest.fixture
def certified(bitcert, here, toy_data):
    certify(bitcert, "--data", toy_data)
    return here / "out" / "certificate.json"


def test_verify_says_valid_invalid_or_cannot_check(bitcert, here, certified, toy_data, forge):
    valid = bitcert("verify", certified, "--data", toy_data)
    assert (valid.code, valid.err) == (0, "")
    assert "VALID. With 95 % confidence" in valid.out

    missing = bitcert("verify", certified)
    assert missing.code == 2
    assert "CANNOT CHECK" in missing.out
    assert "--data" in missing.out

    np.savez(here / "other.npz", x=np.zeros((400, 2), np.float32), y=np.arange(400) % 2)
    for name, says in (("other.npz", "content hashes differ"), ("digits", "'digits'")):
        other = bitcert("verify", certified, "--data", name)
        assert other.code == 2
        assert says in other.out

    assert bitcert("verify", here / "gone.json").code == 2
    assert bitcert("verify", here).code == 2
    assert bitcert("verify", certified, "--data", "gone.npz").code == 2

    forge(certified, lambda content: content.update(errors=content["errors"] - 1), restate=True)
    invalid = bitcert("verify", certified, "--data", toy_data)
    assert invalid.code == 1
    assert "INVALID: errors: " in invalid.out
    assert "FAIL errors" in invalid.out


def test_verify_as_json(bitcert, certified, toy_data):
    valid = json.loads(bitcert("verify", certified, "--data", toy_data, "--json").out)
    assert valid["status"] == "valid"
    assert all(line["holds"] for line in valid["lines"])
    certified.write_text("{}")
    outcome = bitcert("verify", certified, "--data", toy_data, "--json")
    assert outcome.code == 1
    invalid = json.loads(outcome.out)
    assert invalid["status"] == "invalid"
    assert invalid["reason"].startswith("certificate file:")


def test_a_hostile_name_does_not_reach_the_terminal(bitcert, certified, forge):
    def change(content):
        content["data"]["name"] = "\x1b[2J\ud800"

    forge(certified, change)
    outcome = bitcert("verify", certified)
    assert outcome.code == 2
    assert "\x1b[2J" not in outcome.out
