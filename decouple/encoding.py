"""Text from files of other programs: its encoding is what the file says, not what the reader would like."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of utf-16-le
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encoding_of(data: bytes) -> tuple[str, int]:
    """The encoding that a byte order mark names, and the mark's length; UTF-8 where there is none.

    >>> encoding_of("a".encode("utf-16"))
    ('utf-16-le', 2)
    """
    return next(((name, len(mark)) for mark, name in _MARKS if data.startswith(mark)), ("utf-8", 0))


def decoded(data: bytes) -> str:
    """The text of a file, without the byte order mark that some editors begin it with.

    >>> decoded(b"\\xef\\xbb\\xbfa"), decoded("a".encode("utf-16"))
    ('a', 'a')

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    name, length = encoding_of(data)
    return data[length:].decode(name)
