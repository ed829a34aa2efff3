"""Rank coefficients written out from their definitions, pair by pair, with dictionaries of counts."""

import itertools
import math


def sign(value):
    return (value > 0) - (value < 0)


def tau_b(x, y):
    both = ties_x = ties_y = 0
    pairs = list(itertools.combinations(range(len(x)), 2))
    for i, j in pairs:
        a, b = sign(x[i] - x[j]), sign(y[i] - y[j])
        both += a * b
        ties_x += a == 0
        ties_y += b == 0
    return both / math.sqrt((len(pairs) - ties_x) * (len(pairs) - ties_y))


def average_ranks(values):
    return [sum(other < own for other in values) + (sum(other == own for other in values) + 1) / 2 for own in values]


def rho(x, y):
    a, b = average_ranks(x), average_ranks(y)
    n = len(a)
    ma, mb = sum(a) / n, sum(b) / n
    covariance = sum((p - ma) * (q - mb) for p, q in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b))


def psi(x, y, chosen, axis):
    """Over every setting of the other hyperparameters: the mean product of signs of its ordered pairs."""
    cells = {tuple(sorted((k, v) for k, v in own.items() if k != axis)) for own in chosen}
    taus = []
    for cell in cells:
        own = [k for k, c in enumerate(chosen) if all(c[name] == value for name, value in cell)]
        if len({chosen[k][axis] for k in own}) > 1:
            pairs = [(i, j) for i in own for j in own if i != j]
            taus.append(sum(sign(x[i] - x[j]) * sign(y[i] - y[j]) for i, j in pairs) / len(pairs))
    return sum(taus) / len(taus) if taus else None


def information(x, y, chosen, given):
    """``I(V_x; V_y | U) / H(V_y | U)`` as the sums over probabilities that define them."""
    joint = {}
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    for i, j in pairs:
        u = tuple((chosen[i][name], chosen[j][name]) for name in given)
        key = (sign(x[i] - x[j]), sign(y[i] - y[j]), u)
        joint[key] = joint.get(key, 0) + 1 / len(pairs)

    def total(a=None, b=None, u=None):
        return sum(p for key, p in joint.items() if all(w is None or w == k for w, k in zip((a, b, u), key)))  # noqa: B905

    mutual = sum(p * math.log(p * total(u=u) / (total(a=a, u=u) * total(b=b, u=u))) for (a, b, u), p in joint.items())
    entropy = 0.0
    for b, u in {(b, u) for _, b, u in joint}:
        p = total(b=b, u=u)
        entropy -= p * math.log(p / total(u=u))
    return mutual / entropy if entropy > 1e-12 else None


def conditional(x, y, chosen):
    names = list(chosen[0])
    sets = [given for size in range(3) for given in itertools.combinations(names, size)]
    shares = [information(x, y, chosen, given) for given in sets]
    known = [share for share in shares if share is not None]
    return min(known) if known else None
