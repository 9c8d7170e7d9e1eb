"""Teaches the documentation build the house's docstrings: sections that follow each other without a blank line.

The parser of Google-style docstrings takes `Returns:` for a section only after a blank line. This puts one in.
"""

import re
from typing import Any

import griffe

_HEADING = re.compile(r"(?<=\S)\n(?=(?:Args|Returns|Yields|Raises|Attributes|Example|Examples):\n[ \t]+\S)")


class Sections(griffe.Extension):
    """Sets the sections of every docstring apart before they are parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring in memory."""
        if obj.docstring is not None:
            obj.docstring.value = _HEADING.sub("\n\n", obj.docstring.value)
