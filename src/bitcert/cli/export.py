"""``bitcert export``: a certified classifier in the formats of others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from bitcert.certificates.loading import Certified, load
from bitcert.cli.common import load_opaque, note
from bitcert.cli.options import refuse_both
from bitcert.errors import InputError
from bitcert.exports import Format, export, is_export, push_to_hub, save_pretrained
from bitcert.report.text import self_contained

Target = StrEnum("Target", [*Format.__members__, "hub"])  # type: ignore[misc]
"""What a classifier can be exported to: a file of a format, or a folder for a model hub."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of the verb."""

    certificate: Annotated[Path, Argument(help="Folder of certify's results, or certificate.json in it.")]
    to: Annotated[Target, Option(help="Format; hub: a folder with a model card.")] = Target["onnx"]
    data: Annotated[str | None, Option(help="Data to compare on, by name or path; by default random inputs.")] = None
    schema: Annotated[Path | None, Option(help="Of a table: the schema that it was certified with.")] = None
    model: Annotated[str | None, Option(help="package.module:factory of an opaque network; runs that code.")] = None
    check: Annotated[Path | None, Option(help="Write nothing; is this file such an export? Exit 1 if not.")] = None
    push: Annotated[str | None, Option(help="USER/NAME on the Hugging Face hub to upload the folder to.")] = None
    out: Annotated[Path | None, Option(help="File or folder; by default classifier.onnx and the like.")] = None

    def refuse_ignored(self) -> None:
        """Refuse options that would have no effect.

        Raises:
            InputError: the first that is found.
        """
        hub, to = self.to == "hub", f"--to {self.to}"
        if self.push is not None and not hub:
            raise InputError("--push with --to hub", to, "leave out one of them")
        if self.check is not None and hub:
            raise InputError("a file of one format to --check", to, "verify its certificate.json instead")
        refuse_both(self.data is not None and (hub or self.to == "state_dict"), "--data", to)
        refuse_both(self.data is not None and self.check is not None, "--data", "--check")
        refuse_both(self.out is not None and self.check is not None, "--out", "--check")
        refuse_both(self.out is not None and self.push is not None, "--out", "--push")


def export_classifier(options: ExportOptions) -> None:
    """Write a certified classifier in another format, its certificate in the file."""
    options.refuse_ignored()
    model = None if options.model is None else partial(load_opaque, options.model)
    certified = load(options.certificate, model=model, schema=options.schema)
    if options.to == "hub":
        _to_hub(certified, options)
    elif options.check is not None:
        _check(certified, options.check, Format(options.to))
    else:
        _to_file(certified, options)


def _to_hub(certified: Certified, options: ExportOptions) -> None:
    if options.push is not None:
        print(f"Uploaded: {push_to_hub(certified, options.push)}")
        return
    folder = options.out or Path("classifier")
    save_pretrained(certified, folder)
    print(f"Written: {folder}, with a model card in README.md")


def _check(certified: Certified, path: Path, kind: Format) -> None:
    if is_export(certified, path, kind):
        print(f"{path} is what this program exports of the message of this certificate, byte for byte.")
        return
    print(f"{path} is NOT what this program exports of this message: it was changed, or other versions wrote it.")
    raise Exit(1)


def _to_file(certified: Certified, options: ExportOptions) -> None:
    kind = Format(options.to)
    path = options.out or Path(f"classifier{kind.suffix}")
    inputs = None if options.data is None else certified.read(options.data)
    made = export(certified, path, kind, inputs)
    found = made.agreement
    if kind is Format.state_dict:
        print("Compared: the tensors are those of the message.")
    else:
        print(f"Compared on {found.examples:,} examples: logits within {found.deviation:.1e} of the largest one.")
    print(f"Written: {path}\nSHA-256: {made.sha256}")
    certificate = certified.certificate
    note(f"{certificate.sentence} Self-contained: {self_contained(certificate)}. Not verified here: bitcert verify.")
