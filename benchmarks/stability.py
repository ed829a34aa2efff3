"""What trained networks show beside untrained ones: ``python benchmarks/stability.py [--images N] [--json]``.

Measures LeNet-300-100 and LeNet-5 on MNIST and ResNet-20 on CIFAR-10 (checkpoints found through BITCERT_DATA) and the
same architectures with He-normal weights, on the same images: attenuation curves and the four distributions of Arora
2018, Fig. 2. Prints one table a network and what of the papers' claims holds; ``--json`` writes docs/stability.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from networks import trained_network
from rich.console import Console
from rich.table import Table

from bitcert.certificates.certification import versions
from bitcert.stability import MeasureSettings, StabilityProfile, measure

RESULTS = Path(__file__).parents[1] / "docs" / "stability.json"
NETWORKS = {"lenet300": 2000, "lenet5": 1000, "resnet20": 200}
FOUR = ("layer_cushion", "minimal_interlayer_cushion_unclipped", "contraction", "smoothness")
TOLERANCE = 0.02


def distributions(profile: StabilityProfile) -> dict[str, list[dict[str, object]]]:
    """Place, extremes and quantiles of the four quantities."""
    found: dict[str, list[dict[str, object]]] = {}
    for quantity in FOUR:
        found[quantity] = [
            {
                "place": d.label,
                "minimum": d.minimum,
                "median": d.quantiles.get(0.5),
                "maximum": d.maximum,
                "skipped": d.skipped,
            }
            for d in profile.distributions.get(quantity, ())
        ]
    return found


def curves(profile: StabilityProfile) -> list[dict[str, object]]:
    """Mean relative error by layer for each injection."""
    return [
        {"level": c.level, "injection": c.injection, "targets": list(c.targets), "mean": list(c.mean)}
        for c in profile.attenuation
    ]


def medians(profile: StabilityProfile, quantity: str) -> list[float]:
    """Median of every place where there is one."""
    found = (d.quantiles.get(0.5) for d in profile.distributions.get(quantity, ()))
    return [value for value in found if value is not None]


def claims(profile: StabilityProfile) -> dict[str, str]:
    """The papers' claims in numbers, trained beside untrained."""
    twin = profile.twin
    assert twin is not None
    pairs = list(zip(medians(profile, "layer_cushion"), medians(twin, "layer_cushion"), strict=True))
    larger = sum(a > b for a, b in pairs)
    between = list(
        zip(
            medians(profile, "minimal_interlayer_cushion_unclipped"),
            medians(twin, "minimal_interlayer_cushion_unclipped"),
            strict=True,
        )
    )
    wider = sum(a > b for a, b in between)
    ends, twin_ends = ([(c.mean[0], c.mean[-1]) for c in one.attenuation if len(c.mean) > 1] for one in (profile, twin))
    falls, twin_falls = (sum(f is not None and g is not None and g < f for f, g in e) for e in (ends, twin_ends))
    rho, twin_rho = profile.smoothness, twin.smoothness
    return {
        "layer cushion, median larger than untrained": f"{larger} of {len(pairs)} layers",
        "minimal interlayer cushion, median larger than untrained": f"{wider} of {len(between)} layers",
        "noise smaller at the last layer than where it enters": (
            f"{falls} of {len(ends)} injections (untrained {twin_falls} of {len(twin_ends)})"
        ),
        "largest contraction": f"{worst(profile, 'contraction'):.3g} (untrained {worst(twin, 'contraction'):.3g})",
        "1/rho": "not measured"
        if rho is None or twin_rho is None
        else f"{rho.value:.3g} (untrained {twin_rho.value:.3g})",
    }


def worst(profile: StabilityProfile, quantity: str) -> float:
    """Largest value over places and examples."""
    return max(
        (d.maximum for d in profile.distributions.get(quantity, ()) if d.maximum is not None), default=float("nan")
    )


def show(console: Console, name: str, profile: StabilityProfile) -> None:
    """A table of medians by layer, then the claims."""
    twin = profile.twin
    assert twin is not None
    table = Table("layer", "cushion", "untrained", "minimal interlayer", "untrained", title=name)
    for k, row in enumerate(profile.layers):
        cells = []
        for quantity in FOUR[:2]:
            for one in (profile, twin):
                value = one.distributions[quantity][k].quantiles.get(0.5)
                cells.append("–" if value is None else f"{value:.3g}")
        table.add_row(f"{row.index} {row.node}", *cells)
    console.print(table)
    for claim, found in claims(profile).items():
        console.print(f"{claim}: {found}", highlight=False)


def main() -> None:
    """Measure every network and print or keep what is seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"some of {', '.join(NETWORKS)}; all of them by default")
    parser.add_argument("--images", type=int, help="images of every network instead of the usual numbers")
    parser.add_argument("--json", action="store_true", help="write docs/stability.json")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(NETWORKS)
    if unknown:
        parser.error(f"nothing named {', '.join(sorted(unknown))}")
    console = Console(width=110)
    result: dict[str, object] = {"seed": 0, "tolerance": TOLERANCE, "noise": 0.1, "versions": versions()}
    for name in arguments.networks or NETWORKS:
        count = arguments.images or NETWORKS[name]
        network, sample, process = trained_network(name, count)
        settings = MeasureSettings(tolerance=TOLERANCE)
        profile = measure(network, sample, settings, preprocessing=process, random_init=True)
        show(console, name, profile)
        assert profile.twin is not None
        result[name] = {
            "images": count,
            "claims": claims(profile),
            "trained": {"distributions": distributions(profile), "attenuation": curves(profile)},
            "untrained": {"distributions": distributions(profile.twin), "attenuation": curves(profile.twin)},
        }
    if arguments.json:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
