"""Every bound of the papers and of their baselines on one network (docs/theory.md sections 3.3 and 4).

::

    table = bounds(network, sample)             # -> BoundTable: one row for each bound
    table.row("arora2018-thm4.1").value         # a capacity, in samples

Reading order: ``value`` (what a bound says), ``inputs`` (what it is computed from), ``papers`` (one module each, over
the arithmetic in ``formulas``), ``registry`` (the table), ``gathering`` and ``ingredients`` (inputs from a network
and a sample), ``table`` (rows and their file). The capacities are *measures*; a row is a *guarantee* only where every
constant is present and every condition holds.
"""
