"""Text from elsewhere, such as an error of a service or of a cell, made safe for a terminal and for a pipeline's log.

The agent of Azure DevOps obeys every line that holds ``##vso[``, and formats lines that begin with ``##[``. A terminal
obeys control characters. Only the runner's own words may do either.
"""

from __future__ import annotations

import logging
import re

# Sequences that colour text, move the cursor or set a window's title.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]")
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Control characters, signs without a width or that turn the direction of writing, and halves of characters.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_ORDER = re.compile(r"##(?=(?:vso)?\[)", re.IGNORECASE)


def shown(text: str) -> str:
    """Return ``text`` without control characters, and with agents' orders broken: ``##vso[`` becomes ``# #vso[``."""
    text = _LINE_ENDS.sub("\n", _SEQUENCES.sub("", text))
    # Orders are searched last, for what was taken out may have divided one.
    return _ORDER.sub("# #", _UNSEEN.sub("", text))


def on_one_line(text: str) -> str:
    """Return ``text`` as ``shown`` does, with its lines joined by spaces; for what ends at the end of a line."""
    return " ".join(shown(text).split("\n"))


class Formatter(logging.Formatter):
    """Formats log records of libraries as text from elsewhere."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one text."""
        return shown(super().format(record))
