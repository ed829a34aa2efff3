"""The README as the page of the package: links to files become links to the repository that pyproject.toml names."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Fills in ``readme``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read the README beside this file and make its links absolute."""
        source = metadata["urls"]["Source"]
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = RELATIVE.sub(lambda link: f"]({source}/blob/v{metadata['version']}/{link[1]})", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
