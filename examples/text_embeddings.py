"""A classifier of short texts on frozen embeddings, certified with and without a public head as helper.

    python examples/text_embeddings.py out-text

No model is downloaded: a sentence is embedded as the sum of its words' fixed random vectors (feature hashing,
Weinberger et al. 2009), which were fixed before any sentence was seen. In place of it, any frozen encoder will do: save
``x [m, d]`` float32 and ``y [m]`` as an .npz file and name it with ``--data``.

The public head is a linear classifier trained on *other* sentences (about products). The sample is about films: the
same words of praise and blame among others that the head has never met. The message says how to change the head:
family 5 (as it is, a correction, a head of its own), or a difference codec with ``base=file``.
"""

from __future__ import annotations

import hashlib
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

import bitcert
from bitcert.codecs import codec_from
from bitcert.decoder import Helper, HelperWeights
from bitcert.random import stream
from bitcert.search import Run
from bitcert.search.head_forms import compress_network_head

DIMENSIONS = 64
MOOD = {
    "good": ("great", "superb", "lovely", "excellent", "delightful", "brilliant"),
    "bad": ("awful", "poor", "dreadful", "terrible", "boring", "dull"),
    "mixed": ("decent", "average", "uneven", "passable", "ordinary", "middling"),
}
PRODUCTS = ("kettle", "lamp", "phone", "chair", "watch", "bag", "radio", "clock")
FILMS = ("plot", "cast", "score", "ending", "script", "camera", "pacing", "scene", "hero", "villain")
FRAMES = ("the {0} was {1} and the {2} was {3}", "a {1} {0} with a {3} {2}", "i found the {0} {1} , the {2} {3}")


def word_vector(word: str) -> np.ndarray:
    """The fixed vector of a word, ``[DIMENSIONS]``: signs from a hash."""
    digest = hashlib.sha256(word.encode()).digest()
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))[:DIMENSIONS]
    return bits.astype(np.float32) * 2 - 1


def embed(sentence: str) -> np.ndarray:
    """Sum of the words' vectors over the root of their number, ``[DIMENSIONS]`` float32."""
    words = sentence.split()
    return np.asarray(sum(word_vector(word) for word in words) / len(words) ** 0.5, dtype=np.float32)


def sentences(things: tuple[str, ...], count: int, seed: int, doubtful: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """``count`` templated sentences as embeddings ``[count, DIMENSIONS]``, with labels in the order of :data:`MOOD`."""
    draws = stream(seed, f"sentences about {things[0]}")
    x, y = np.empty((count, DIMENSIONS), dtype=np.float32), np.empty(count, dtype=np.int64)
    choices = list(product(range(len(MOOD)), FRAMES))
    for k in range(count):
        label, frame = choices[int(draws.integers(len(choices)))]
        words = list(MOOD.values())[label]
        first, second = draws.choice(len(things), 2, replace=False)
        praise, more = draws.choice(len(words), 2, replace=False)
        x[k] = embed(frame.format(things[first], words[praise], things[second], words[more]))
        y[k] = int(draws.integers(len(MOOD))) if draws.random() < doubtful else label
    return x, y


def public_head() -> nn.Linear:
    """A linear head trained on sentences about products; the factory for ``bitcert certify``."""
    x, y = sentences(PRODUCTS, 300, seed=1, doubtful=0.1)
    head = nn.Linear(DIMENSIONS, len(MOOD))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    for _step in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(torch.tensor(x)), torch.tensor(y)).backward()
        optimiser.step()
    return head


def film_sample(count: int = 3000) -> bitcert.Sample:
    """Sentences about films, the sample that is certified."""
    x, y = sentences(FILMS, count, seed=2, doubtful=0.02)
    return bitcert.Sample(x, y, len(MOOD), bitcert.Role.TRAIN, "film sentences")


def certify_all(sample: bitcert.Sample, seconds: float) -> dict[str, bitcert.Certificate]:
    """Certificates by what the message is."""
    network = bitcert.capture(public_head(), torch.from_numpy(np.array(sample.inputs[:2])))
    weights = HelperWeights.of(network.architecture, network.parameters)
    helper = Helper.for_sample(sample, network.architecture, None, weights)
    found = {}
    compressed = compress_network_head(sample, helper, Run(budget_seconds=seconds))
    found["public head, family 5"] = bitcert.certify(compressed, sample)
    trained = nn.Linear(DIMENSIONS, len(MOOD))
    trained.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in weights.values.items()})
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.1, weight_decay=1e-3)
    x, y = torch.from_numpy(np.array(sample.inputs)), torch.tensor(sample.labels)
    for _step in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(trained(x), y).backward()
        optimiser.step()
    tuned = bitcert.capture(trained, x[:2])
    for name, options in (("svd", {"rank": "2"}), ("quantise", {"fraction": "0.5"})):
        codec = codec_from(name, {**options, "base": "file", "rest": "helper"})
        compressed = codec.encode(tuned, sample, helper=helper)
        found[f"difference from the public head, {name}"] = bitcert.certify(compressed, sample)
    own = bitcert.compress(sample, run=Run(budget_seconds=seconds))
    found["no helper, inputs as features"] = bitcert.certify(own, sample)
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    films = film_sample()
    np.savez(folder / "films.npz", x=films.inputs, y=films.labels)
    for title, certificate in certify_all(films, 60.0).items():
        bound, errors = 100 * certificate.bound, 100 * certificate.errors / certificate.samples
        print(f"{title}: error at most {bound:.2f} % ({errors:.2f} % counted, {certificate.message_bits} bits)")
