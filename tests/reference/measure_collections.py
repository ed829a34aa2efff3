"""The formulas of the two public measure collections, on torch modules, one weight and one loop at a time.

Written from the formulas, independently of the package: a layer is a module with a ``weight``; convolutions are
reshaped to ``[out, rest]``; ``model`` and ``init`` are ``nn.Sequential``. Values overflow where the package does not.
"""

import copy
import math

import torch
from torch import nn


def layers(model):
    return [child for child in model if hasattr(child, "weight")]


def matrices(model):
    return [layer.weight.detach().double().reshape(layer.weight.shape[0], -1) for layer in layers(model)]


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def group_norm(matrix, p, q):
    units = [float((row.abs() ** p).sum()) ** (1 / p) for row in matrix]
    return max(units) if q == math.inf else sum(unit**q for unit in units) ** (1 / q)


def schatten(matrix, p):
    sigma = torch.linalg.svdvals(matrix).tolist()
    return max(sigma) if p == math.inf else sum(s**p for s in sigma) ** (1 / p)


def path(model, shape, p):
    other = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(parameter.abs() ** p)
        return float(other(torch.ones(1, *shape, dtype=torch.float64)).sum()) ** (1 / p)


def neyshabur_2019(model, init, shape, margin, m):
    """Collection (i): measures and bounds by name."""
    now, before = matrices(model), matrices(init)
    d = len(now)
    found = {
        "product-l1inf": math.prod(group_norm(w, 1, math.inf) for w in now) / margin,
        "product-frobenius": math.prod(group_norm(w, 2, 2) for w in now) / margin,
        "product-l3-1.5": math.prod(group_norm(w, 3, 1.5) for w in now) / margin,
        "product-spectral": math.prod(schatten(w, math.inf) for w in now) / margin,
        "product-l1.5-operator": math.prod(schatten(w, 1.5) for w in now) / margin,
        "product-trace": math.prod(schatten(w, 1) for w in now) / margin,
        "path-l1": path(model, shape, 1) / margin,
        "path-l1.5": path(model, shape, 1.5) / margin,
        "path-l2": path(model, shape, 2) / margin,
    }
    alpha = math.sqrt(d + math.log(math.prod(shape)))
    found["bartlett2002-l1inf-collection"] = alpha * found["product-l1inf"] / math.sqrt(m)
    found["neyshabur2015-frobenius-collection"] = alpha * found["product-frobenius"] / math.sqrt(m)
    found["neyshabur2015-l3-1.5-collection"] = alpha * found["product-l3-1.5"] / m ** (1 / 3)

    def ratio(q, p):
        total = 0.0
        for w, w0 in zip(now, before, strict=True):
            distance = w.shape[0] ** (1 - 1 / q) * group_norm(w - w0, 2, q)
            total += (distance / schatten(w, math.inf)) ** p
        return total ** (1 / p)

    logs = math.log(m) * math.log(count(model))
    spectral = found["product-spectral"]
    found["bartlett2017-spec-l12-collection"] = logs * spectral * ratio(1, 2 / 3) / math.sqrt(m)
    found["neyshabur2018-spec-fro-collection"] = d * spectral * ratio(2, 2) / math.sqrt(m)
    return found


def dziugaite_2020(model, init, shape, margin):
    """Collection (ii) without flatness, by name; spectral norms NOT squared, logarithms as it reports them."""
    now, before = matrices(model), matrices(init)
    d = len(now)
    fro = [float((w**2).sum()) for w in now]
    spec = [schatten(w, math.inf) for w in now]
    moved = [w - w0 for w, w0 in zip(now, before, strict=True)]
    log_fro, log_spec = sum(map(math.log, fro)), sum(map(math.log, spec))
    over = 2 * math.log(margin)
    norm = path(model, shape, 2)
    return {
        "l2": math.sqrt(sum(fro)),
        "l2-dist": math.sqrt(sum(float((w**2).sum()) for w in moved)),
        "params": count(model),
        "inverse-margin": 1 / margin**2,
        "log-prod-of-fro": log_fro,
        "log-sum-of-fro": math.log(d) + log_fro / d,
        "log-prod-of-fro-over-margin": log_fro - over,
        "log-sum-of-fro-over-margin": math.log(d) + (log_fro - over) / d,
        "log-prod-of-spec": log_spec,
        "log-sum-of-spec": math.log(d) + log_spec / d,
        "log-prod-of-spec-over-margin": log_spec - over,
        "log-sum-of-spec-over-margin": math.log(d) + (log_spec - over) / d,
        "param-norm": sum(fro),
        "fro-dist": sum(float((w**2).sum()) for w in moved),
        "dist-spec-init": sum(schatten(w, math.inf) for w in moved),
        "fro-over-spec": sum(f / s for f, s in zip(fro, spec, strict=True)),
        "path-norm": norm,
        "path-norm-over-margin": norm / margin**2,
    }


def jiang_2020(model, init, margin):
    """The measures with spectral norms as Jiang et al. 2020 write them: squared."""
    now, before = matrices(model), matrices(init)
    d = len(now)
    fro = [float((w**2).sum()) for w in now]
    spec = [schatten(w, math.inf) ** 2 for w in now]
    moved = [w - w0 for w, w0 in zip(now, before, strict=True)]
    product = math.prod(spec)
    ranks = sum(f / s for f, s in zip(fro, spec, strict=True))
    ways = sum(float((w**2).sum()) / s for w, s in zip(moved, spec, strict=True))
    return {
        "log-prod-of-spec": math.log(product),
        "log-prod-of-spec-over-margin": math.log(product / margin**2),
        "log-sum-of-spec": math.log(d * product ** (1 / d)),
        "log-sum-of-spec-over-margin": math.log(d * (product / margin**2) ** (1 / d)),
        "log-spec-orig-main": math.log(product * ranks / margin**2),
        "log-spec-init-main": math.log(product * ways / margin**2),
        "dist-spec-init": sum(schatten(w, math.inf) ** 2 for w in moved),
        "fro-over-spec": ranks,
    }


def flatness(model, init, m, sigma, mag_sigma, eps):
    """Collection (ii)'s PAC-Bayes measures for standard deviations that are given."""
    now = [w for matrix in matrices(model) for w in matrix.flatten().tolist()]
    before = [w for matrix in matrices(init) for w in matrix.flatten().tolist()]
    size = sum(w**2 for w in now)
    way = sum((w - w0) ** 2 for w, w0 in zip(now, before, strict=True))
    omega = count(model)

    def plain(square):
        return square / (4 * sigma**2) + math.log(m / sigma) + 10

    def magnitude(square):
        above = eps**2 + (mag_sigma**2 + 1) * square / omega
        total = sum(
            math.log(above / (eps**2 + mag_sigma**2 * (w - w0) ** 2)) for w, w0 in zip(now, before, strict=True)
        )
        return total / 4 + math.log(m / mag_sigma) + 10

    return {
        "pacbayes-flatness": 1 / sigma**2,
        "pacbayes-orig": plain(size),
        "pacbayes-init": plain(way),
        "pacbayes-mag-flatness": 1 / mag_sigma**2,
        "pacbayes-mag-orig": magnitude(size),
        "pacbayes-mag-init": magnitude(way),
    }


def networks(seed=0):
    """Small networks with biases, and their initial weights: ``(name, model, init, shape)``."""
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, init, shape in (("dense", _dense(), (6,)), ("conv", _convolutional(), (2, 8, 8))):
            model = copy.deepcopy(init)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.5 * torch.randn_like(parameter))
            found.append((name, model, init, shape))
    return found


def _dense():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def _convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
