"""How often a certificate was issued on an unlabelled sample: a book that outlives the process.

The best of several looks at one unlabelled sample is not what a single look promises, so the ``k``-th certificate on it
pays a smaller part of the failure probability (:func:`bitcert.proof.claims.look_share`). Which look this is, is read
from two books: one in the user's state folder (``$BITCERT_STATE``, else ``bitcert`` in ``$XDG_STATE_HOME``, else in
``~/.local/state``), and one beside the output folder, which travels with it. Samples are known by the hash of their
inputs. The same pair of networks counted again is the same look. A look is entered before the disagreements are
counted, under a lock, so that a killed process has looked too.

NOT seen: looks on another machine or by another user, at a part of the sample or at the same examples in another
order; they are declared with ``--look K``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bitcert.certificates.certificate import parse_strict
from bitcert.errors import DecodeError, InputError
from bitcert.locking import locked, replacing
from bitcert.proof.claims import MOST_LOOKS

FORMAT = "bitcert-looks-1"
_MAX_BYTES = 1 << 20

_Looks = dict[str, dict[str, int]]
"""By hash of a sample, by hash of what was counted on it: the number of the look."""


def state_folder() -> Path:
    """The user's folder for what this program must remember."""
    own = os.environ.get("BITCERT_STATE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_STATE_HOME") or Path(os.path.expanduser("~")) / ".local" / "state") / "bitcert"


@dataclass(frozen=True)
class LookBook:
    """Where looks are counted.

    Args:
        files: the books; each is written, and the largest number in any of them counts.
        declared: this is at least the look of this number, because of earlier ones that the books do not know.
    """

    files: tuple[Path, ...]
    declared: int = 1

    @classmethod
    def for_output(cls, out: Path | None = None, declared: int = 1) -> LookBook:
        """The book in the user's state folder, and for an output folder the one beside it."""
        files = [state_folder() / "looks.json"]
        if out is not None:
            out = Path(os.path.abspath(out))
            files.append(out.with_name(f".{out.name}.looks.json"))
        return cls(tuple(files), declared)

    def enter(self, sample_hash: str, counted: str) -> int:
        """The number of this look, which is then in all books.

        Args:
            sample_hash: of the unlabelled inputs.
            counted: hash of the two networks whose disagreements are counted.

        Raises:
            InputError: a declared number out of range, or a book that cannot be read or written.
        """
        if not 1 <= self.declared <= MOST_LOOKS:
            got = str(self.declared)
            raise InputError(f"a look between 1 and {MOST_LOOKS}", got, "count the certificates on these examples")
        with ExitStack() as locks:
            for file in sorted(set(self.files)):
                _hold(locks, file)
            books = {file: _read(file) for file in self.files}
            known = [book.get(sample_hash, {}) for book in books.values()]
            earlier = [looks[counted] for looks in known if counted in looks]
            last = max((number for looks in known for number in looks.values()), default=0)
            number = max(self.declared, min(earlier) if earlier else last + 1)
            for file, book in books.items():
                looks = book.setdefault(sample_hash, {})
                # never a smaller number than before: the looks that it counted have happened
                looks[counted] = max(number, looks.get(counted, 0))
                _write(file, book)
        return number


def _hold(locks: ExitStack, file: Path) -> None:
    """Take the lock under which a book is read and then written; one of its own, as writing takes the file's."""
    try:
        locks.enter_context(locked(file.with_name(f"{file.name}.entry")))
    except OSError as error:
        raise _unusable(file, str(error.strerror or error)) from error


def _unusable(file: Path, reason: str) -> InputError:
    do = "set BITCERT_STATE to a folder that can be written, or repair the file and declare earlier looks with --look"
    return InputError("a book of the looks at unlabelled samples", f"{reason} at {file}", do)


def _read(file: Path) -> _Looks:
    try:
        if not file.exists():
            return {}
        if file.stat().st_size > _MAX_BYTES:
            raise _unusable(file, f"more than {_MAX_BYTES:,} bytes")
        content = parse_strict(file.read_text(encoding="utf-8"), "a book of looks")
    except (OSError, UnicodeDecodeError, DecodeError) as error:
        raise _unusable(file, f"an unreadable file ({error})"[:200]) from error
    if not isinstance(content, dict) or set(content) != {"format", "samples"} or content["format"] != FORMAT:
        raise _unusable(file, "a file of another kind")
    samples = content["samples"]
    if not isinstance(samples, dict) or not all(_is_looks(looks) for looks in samples.values()):
        raise _unusable(file, "numbers that are no looks")
    return samples


def _is_looks(looks: object) -> bool:
    numbers: Sequence[object] = list(looks.values()) if isinstance(looks, dict) else [None]
    return all(type(number) is int and 1 <= number <= MOST_LOOKS for number in numbers)


def _write(file: Path, looks: _Looks) -> None:
    text = json.dumps({"format": FORMAT, "samples": looks}, indent=1, sort_keys=True) + "\n"
    try:
        with replacing(file) as partial, open(partial, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _unusable(file, str(error.strerror or error)) from error
