r"""Text that is safe to show in a terminal: control and invisible characters are written out, as `\x1b`.

Labels, file names, aliases and DICOM strings come from outside. A terminal obeys escape codes in them (they move the
cursor, set the clipboard, hide text), and bidirectional controls and characters without width make one name look like
another.
"""

from __future__ import annotations

import os
import re

#: How much of one thing a message quotes, and how long a message may be at most.
QUOTED, MESSAGE = 200, 800

# Unicode's categories Cc, Cf, Cs, Zl and Zp, fillers that are blank, and noncharacters; without the newline.
_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb"
    "\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = (0xDC80, 0xDCFF)  # how Python holds the bytes of a path that are not UTF-8
_LONG = re.compile(rf"[^\s]{{{QUOTED + 1},}}|(?<=\")[^\"]{{{QUOTED + 1},}}(?=\")|(?<=')[^']{{{QUOTED + 1},}}(?=')")


def plain(text: str) -> str:
    r"""The text with its lines kept and everything else that is unsafe written out; a tab becomes a space."""
    return _UNSAFE.sub(_written, text.replace("\r\n", "\n").replace("\t", " "))


def printable(text: str | bytes | os.PathLike[str]) -> str:
    r"""A path, or any text, as valid UTF-8: bytes that are not UTF-8, and lone surrogates, are written out."""
    text = os.fspath(text)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return text if text.isascii() else _SURROGATE.sub(_written, text)


def plain_line(text: str) -> str:
    r"""Like `plain`, on one line: line breaks become spaces."""
    return plain(text).replace("\n", " ")


def plain_json(text: str) -> str:
    r"""JSON text with unsafe characters as JSON's own escapes, such as `\u202e`, which mean the same text."""
    return _UNSAFE.sub(_as_json, text)


def covered(text: str) -> str:
    """The text with a visible character in place of each unsafe one; its length stays the same."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def shortened(text: str, most: int = QUOTED) -> str:
    """The text, or its beginning and end around an ellipsis where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 3]}...{text[-end:]}"


def message_line(text: str) -> str:
    """A message that is safe to show: on one line, with long quotations and a long text cut.

    A quoted name, path or text from another library may have a megabyte.
    """
    if len(text) > QUOTED:
        text = shortened(text, 20 * MESSAGE)  # so that looking through it stays quick
        text = shortened(_LONG.sub(lambda long: shortened(long[0]), text), MESSAGE)
    return plain_line(text)


def _written(found: re.Match[str]) -> str:
    code = ord(found[0])
    if _ESCAPED[0] <= code <= _ESCAPED[1]:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _as_json(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
