"""What each kind of feature and each step of a head on banks gives: ``python benchmarks/ablations.py [DATA] [--json]``.

Each case grows a head of family 2 on one bank, on a random part of the training sample (12,000 examples unless
``--examples`` says more, seed 0), and sharpens it. One JSON line for each case and step: errors (scaled to the whole
sample), ideal bits of the row code, the bound that these would give, ideal bits of the same head when every weight has
its own flag, seconds. A part is fitted better than the whole, the more so the larger the bank: the bounds are
comparable among each other and certify nothing. ``--json`` appends the lines to docs/results-ablations.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from bitcert.coding import integer_code_bits
from bitcert.counting import DecisionRule, count_batch
from bitcert.data import Role, Sample, load_sample
from bitcert.decoder import Helper
from bitcert.decoder.features.banks import Bank, Part
from bitcert.proof import occam_bound
from bitcert.run import Run
from bitcert.search.head import BankSearch, errors_per_bit
from bitcert.search.head_objective import BankObjective
from bitcert.search.head_start import grow

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results-ablations.jsonl"
EXAMPLES = 12_000
GROWTH = (2.0, 1.0, 0.6, 1.0)
HEADER_BITS = 16
DELTA = 0.05


def parts(text: str) -> tuple[Part, ...]:
    """Parts from words like ``"edges 7, rays 3"``."""
    pairs = [word.strip().rsplit(" ", 1) for word in text.split(",")]
    return tuple(Part(kind, int(grid)) for kind, grid in pairs)


STROKES = "edges 7, rays 3, diagonal rays 3, holes 3, crossings 6"
SURFACES = f"{STROKES}, edges 4, crossings 3, colour 7, colour 4"
WAVES = "waves 1, waves 2, waves 4, wave peaks 1, wave energy 1, wave pairs 1"
CASES: dict[str, dict[str, Bank]] = {
    "mnist": {
        "edges 7": Bank(False, parts("edges 7")),
        "edges 7, upright": Bank(True, parts("edges 7")),
        "strokes, upright": Bank(True, parts(STROKES)),
        "strokes and second edges 5, upright": Bank(True, parts(f"{STROKES}, second edges 5")),
    },
    "fashion-mnist": {
        "edges 7": Bank(False, parts("edges 7")),
        "edges 7, upright": Bank(True, parts("edges 7")),
        "strokes": Bank(False, parts(STROKES)),
        "surfaces": Bank(False, parts(SURFACES)),
        "surfaces, mirrored": Bank(False, parts(SURFACES), True),
        "surfaces and second edges 5": Bank(False, parts(f"{SURFACES}, second edges 5")),
        "surfaces and second edges 5, mirrored": Bank(False, parts(f"{SURFACES}, second edges 5"), True),
        "surfaces and second edges 5 and 10, mirrored": Bank(
            False, parts(f"{SURFACES}, second edges 5, second edges 10"), True
        ),
        "surfaces and mixtures 2, mirrored": Bank(False, parts(f"{SURFACES}, mixtures 2"), True),
    },
    "cifar10": {
        "edges 4 and second edges 4, mirrored": Bank(False, parts("edges 4, second edges 4"), True),
        "waves": Bank(False, parts(WAVES)),
        "waves, mirrored": Bank(False, parts(WAVES), True),
        "waves and mixtures 2, mirrored": Bank(False, parts(f"{WAVES}, mixtures 2"), True),
        "the same and second edges 5": Bank(False, parts(f"{WAVES}, mixtures 2, second edges 5"), True),
        "the same and edges 4 and second edges 4": Bank(
            False, parts(f"{WAVES}, mixtures 2, edges 4, second edges 4"), True
        ),
        "the same and sharp edges 4 and second sharp edges 4": Bank(
            False, parts(f"{WAVES}, mixtures 2, sharp edges 4, second sharp edges 4"), True
        ),
    },
}


class Trial(BankSearch):
    """The search of the program on one bank; instead of messages it books lines."""

    def __init__(self, sample: Sample, told: dict[str, Any], run: Run) -> None:
        super().__init__(sample, Helper.for_sample(sample), run, None)
        self.told, self.began, self.lines = told, time.monotonic(), list[dict[str, Any]]()

    def book(self, name: str, bank: Bank | None, objective: BankObjective) -> float:
        """Add the line of a head."""
        del bank
        size, labels = len(self.sample), objective.examples.labels.numpy()
        count = count_batch(objective.logits_t().T, labels, DecisionRule().tolerance)
        errors, bits = round(count.errors * size / count.samples), HEADER_BITS + round(objective.code_bits())
        bound = occam_bound(errors, size, bits, DELTA).binomial
        alone = HEADER_BITS + round(integer_code_bits(objective.weights))
        line = {"idea": f"{self.told['bank']}; {name}", "bits": bits, "errors": errors, "bound": round(bound, 5)}
        line |= {"bits_with_a_flag_for_each_weight": alone, "rows": len(objective.used_rows())}
        line |= {"seconds": round(time.monotonic() - self.began, 1)}
        self.lines.append({**line, **self.told})
        self.unit = errors_per_bit(errors / size, bound)
        return bound

    def measure(self, bank: Bank, examples: int) -> list[dict[str, Any]]:
        """Lines of the grown and of the sharpened head."""
        objective = self.objective(bank, examples)
        grow(objective, self.unit, self.tolerance, self.out_of_time, GROWTH, False)
        self.book("grown", bank, objective)
        self.sharpen("sharpened", bank, objective, thorough=False)
        return [self.lines[0], self.lines[-1]]


def main() -> None:
    """Print one line for each case and step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--json", action="store_true", help=f"append to {RESULTS.name}")
    arguments = parser.parse_args()
    for data in arguments.data or CASES:
        sample = load_sample(data, Role.TRAIN)
        for name, bank in CASES[data].items():
            command = f"python benchmarks/ablations.py {data} --examples {arguments.examples}"
            told = {"data": data, "bank": name, "examples": arguments.examples, "seed": 0, "command": command}
            lines = Trial(sample, told, Run(seed=0, budget_seconds=np.inf)).measure(bank, arguments.examples)
            for line in lines:
                print(json.dumps(line), flush=True)
                if arguments.json:
                    with RESULTS.open("a") as file:
                        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
