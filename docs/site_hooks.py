"""What the site has beyond the pages of this folder: README, CONTRIBUTING, the changelog and the API reference.

mkdocs calls ``on_files`` and ``on_page_markdown``; griffe, which reads the sources without importing them, calls
``PlainDocstrings``.
"""

import ast
import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "bitcert"
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
MODULES = ("counting", "errors", "losses", "random")
"""Modules of the top level that users name: what to catch, losses to certify, streams of random numbers."""

OPTIONS = "    options:\n      show_root_heading: false\n"

CODE = re.compile(r"(`+)(.+?)\1")
ROLE = re.compile(r":(?:mod|class|func|meth|data|attr|exc):`~?([^`]+)`")
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*|\n\1 +.*)*", re.MULTILINE)


def packages() -> list[str]:
    """Packages with an ``__all__``, in the order of reading that the docstring of bitcert gives."""
    folders = [path.parent.name for path in SOURCE.glob("*/__init__.py") if "__all__" in path.read_text()]
    text = ast.get_docstring(ast.parse((SOURCE / "__init__.py").read_text())) or ""
    order = text[text.index("Samples come from") :]
    return sorted(folders, key=lambda name: order.index(f"``{name}``") if f"``{name}``" in order else len(order))


def api_pages() -> dict[str, str]:
    """Path and Markdown of every page of the API reference."""
    names = [*packages(), *MODULES]
    pages = {f"api/{name}.md": f"# bitcert.{name}\n\n::: bitcert.{name}\n{OPTIONS}" for name in names}
    parts = "\n".join(f"- [{name}]({name}.md): {_first_line(name)}" for name in names)
    title = "# API reference\n\nThe parts of bitcert, in the order of reading:"
    pages["api/index.md"] = f"{title}\n\n{parts}\n\n::: bitcert\n"
    return pages


def _first_line(name: str) -> str:
    """The first line of the docstring of a package or module."""
    path = SOURCE / name / "__init__.py" if (SOURCE / name).is_dir() else SOURCE / f"{name}.py"
    return plain((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " "))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere or nowhere."""
    for name, target in OUTSIDE.items():
        text = (ROOT / name).read_text().replace("](docs/", "](")
        for other, place in OUTSIDE.items():
            text = text.replace(f"]({other})", f"]({place})")
        files.append(File.generated(config, target, content=text))
    for target, text in api_pages().items():
        files.append(File.generated(config, target, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """GitHub needs ``\\|`` for a bar inside code in a table; Python-Markdown would show the backslash."""
    del page, config, files
    lines = markdown.splitlines()
    return "\n".join(_bars(line) if line.startswith("|") else line for line in lines)


def _bars(row: str) -> str:
    return CODE.sub(lambda code: code.group(0).replace("\\|", "|"), row)


def plain(docstring: str) -> str:
    """Markdown for the few other marks that docstrings use: roles, ``::`` before a block, and examples."""
    text = re.sub(r"::$", ":", ROLE.sub(r"`\1`", docstring), flags=re.MULTILINE)
    return EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", text)


class PlainDocstrings(griffe.Extension):
    """Hands the docstring of every object through :func:`plain`."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
