"""A study that takes a second: it trains a small network on the embedded digits, and keeps two pieces."""

from functools import partial

from bitcert.studies import Cost, Curve, Figure, Outcome, Panel, Recipe, Row, Study, networks

CALLS: list[str] = []


def run(context) -> Outcome:
    sample = context.sample("digits", 200)
    recipe = Recipe(
        "toy",
        partial(networks.dense, 64, 8, 2),
        context.choose(3, 4, 5),
        rate=0.1,
        halve_every=2,
        augmented=True,
        keep_every=1,
    )
    network = context.train(recipe, sample, sample)

    def errors() -> tuple[float, ...]:
        CALLS.append("errors")
        return tuple(float(epoch.wrong) for epoch in network.log)

    wrong = context.piece("errors", tuple[float, ...], errors, recipe.epochs)
    context.run.progress("between", 0.5)
    total = context.piece(
        "total", float, lambda: float(next(iter(network.module.parameters())).detach().double().sum())
    )
    rows = (Row("wrong", 10.0, wrong[-1], "last epoch"), Row("sum of the first layer", None, total))
    panel = Panel("", "epoch", "wrong", (Curve.of("ours", range(1, len(wrong) + 1), wrong),))
    return Outcome(rows, (Figure("Wrong", "By epoch.", (panel,)),), ("Found.",), "small", (network.trained,))


TOY = Study("toy.table1", "a toy", "Nothing is printed.", (Cost(1), Cost(2), Cost(3)), run, ("digits",))
OTHER = Study("toy.fig1", "another toy", "Nothing.", (Cost(1), Cost(2), Cost(3)), run, ("cifar10",))
HUGE = Study("toy.fig2", "too large", "Nothing.", (Cost(1, memory=1 << 40), Cost(2, disk=1 << 40), Cost(3)), run)
