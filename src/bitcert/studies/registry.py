"""Which studies there are: the ``STUDIES`` of every paper's module."""

from __future__ import annotations

from bitcert.errors import unknown_name
from bitcert.studies import arora2018, arora2018_bounds, guha2023, guha_routes, notes2019, shin2021, zhang2020
from bitcert.studies.study import Study

MODULES = (arora2018, arora2018_bounds, notes2019, zhang2020, guha2023, guha_routes, shin2021)
STUDIES: dict[str, Study] = {study.name: study for module in MODULES for study in module.STUDIES}
"""By name, in the order of the papers."""


def find_studies(name: str | None = None) -> tuple[Study, ...]:
    """The study of this name, all of a paper, or all.

    Raises:
        InputError: there is none; the nearest name is told.

    >>> [study.name for study in find_studies("arora2018.table1")]
    ['arora2018.table1']
    """
    found = tuple(study for study in STUDIES.values() if name in (None, study.name, study.paper))
    if not found:
        assert name is not None
        papers = {study.paper for study in STUDIES.values()}
        raise unknown_name("study or paper", name, [*STUDIES, *papers])
    return found
