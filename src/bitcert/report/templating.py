"""The templates of the pages: everything that is put into one is escaped and cleaned, unless it is markup of ours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from bitcert.report import text as words

__all__ = ["Picture", "get_template"]


@dataclass(frozen=True)
class Picture:
    """A figure as SVG and what is said below it."""

    title: str
    svg: Markup
    caption: str


@cache
def get_template(name: str) -> Template:
    """A template of this package, with escaping switched on and undefined names refused."""
    environment = Environment(
        loader=PackageLoader("bitcert.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else words.clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
