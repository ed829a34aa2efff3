"""The notes of 2019 on generalization and compression: figures 1 and 4."""

from __future__ import annotations

from bitcert.studies.study import Study

STUDIES: tuple[Study, ...] = ()
