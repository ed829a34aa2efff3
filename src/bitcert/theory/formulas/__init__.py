"""Arithmetic that several papers' bounds share: products of norms, noise-stability sums, pruning, a low-rank code."""
