"""A text file as documents, dealt to train, validation, prior and test, in one memory-mapped token file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from decouple.config import CorpusConfig
from decouple.encoding import encoding_of
from decouple.errors import DataError
from decouple.files import load_tensors, save_tensors, try_tensors
from decouple.seeds import generator
from decouple.settings import fingerprint
from decouple.tasks.base import HELD_OUT
from decouple.text.stream import Documents
from decouple.text.tokenizer import tokenizer_of


@dataclass(frozen=True)
class Corpus:
    """The parts of a text, none of which shares a document with another, and what their token ids mean."""

    train: Documents
    validation: Documents
    prior: Documents
    test: Documents
    vocabulary: int
    """V, number of token ids."""
    digest: str
    """Names text and settings: equal digests, equal parts."""
    notes: tuple[str, ...] = ()
    """How the file was read, where it is not plain UTF-8 with LF."""


def load_corpus(file: Path, config: CorpusConfig, folder: Path) -> Corpus:
    """Cut `file` into documents, deal them to the parts and tokenise them; done once, and kept in `folder`.

    The token file holds the documents in the order of the text and is memory-mapped, so that a text need not fit in
    memory to be trained on (it must to be tokenised).

    Raises:
        DataError: the file cannot be read, or has too little text for the parts.
        ConfigError: the tokenizer is not installed.
    """
    text, notes = read_text(file, keep_returns="\r" in config.separator)
    digest = fingerprint(xxhash.xxh3_128(text).hexdigest(), config)
    path, unit = _place(digest, folder)
    if try_tensors(path, unit=unit) is None:
        _tokenise(text, config, path, unit, name=str(file))
    return replace(kept_corpus(digest, folder), notes=notes)


def _place(digest: str, folder: Path) -> tuple[Path, str]:
    """Of a token file, and its identity."""
    return Path(folder) / f"tokens-{digest}.safetensors", f"tokens/{digest}"


def kept_corpus(digest: str, folder: Path) -> Corpus:
    """The corpus that `load_corpus` has kept in a folder, by its digest. Raises DamagedFileError: it is not there, or
    damaged."""
    path, unit = _place(digest, folder)
    tensors, meta = load_tensors(path, unit=unit)
    tokens, bounds = tensors["tokens"].numpy(), tensors["bounds"].numpy()
    parts = {}
    for name, size in meta["bytes"].items():
        documents = tensors[name].numpy()
        starts = bounds[documents]
        parts[name] = Documents(tokens, starts, bounds[documents + 1] - starts, meta["end"], size)
    return Corpus(**parts, vocabulary=meta["vocabulary"], digest=digest, notes=())


_PACKED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\0": lzma}
_NO_TEXT = {b"PK\x03\x04": "a ZIP archive", b"\x28\xb5\x2f\xfd": "compressed by zstd", b"%PDF-": "a PDF"}
"""By how a file begins: what opens it, and what is not opened."""


def read_text(file: Path, *, keep_returns: bool = False) -> tuple[bytes, tuple[str, ...]]:
    """The text of a file as UTF-8 with LF at the ends of lines, and what was done to make it so.

    A file that is compressed (gzip, bzip2, xz) or begins with a byte order mark (UTF-8, UTF-16, UTF-32) is read as what it is. Bytes
    in another encoding stay as they are.

    Args:
        keep_returns: leave the ends of lines alone.

    Raises:
        DataError: it cannot be read, is damaged, or is no text.
    """
    try:
        text = Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"the text {file} cannot be read: {error.strerror}; give --data another file") from None
    notes = []
    for mark, library in _PACKED.items():
        if text.startswith(mark):
            try:
                text = library.decompress(text)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise DataError(
                    f"the text {file} is a damaged {library.__name__} file ({error}); give --data another"
                ) from None
            notes.append(f"unpacked by {library.__name__}")
            break
    for mark, what in _NO_TEXT.items():
        if text.startswith(mark):
            raise DataError(f"{file} is {what}, not a text; take the text out of it and give --data that file")
    encoding, length = encoding_of(text)
    if length:
        try:
            text = text[length:] if encoding == "utf-8" else text[length:].decode(encoding).encode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file} begins as {encoding.upper()} and is not ({error.reason}); convert it to UTF-8"
            ) from None
        notes.append(f"from {encoding.upper()} with a byte order mark")
    elif max(zeros := [text[start:4096:2].count(0) for start in (0, 1)]) > len(text[:4096]) // 4 and min(zeros) == 0:
        # Every other byte is 0, as in UTF-16 of a European language.
        raise DataError(f"{file} looks like UTF-16 without a byte order mark; convert it to UTF-8")
    if not keep_returns and b"\r" in text:
        if b"\r\n" in text:
            text = text.replace(b"\r\n", b"\n")
            notes.append("line ends CR LF taken as LF")
        elif b"\n" not in text:
            text = text.replace(b"\r", b"\n")
            notes.append("line ends CR taken as LF")
    return text, tuple(notes)


def documents_of(text: bytes, separator: bytes) -> list[bytes]:
    """The documents of a text; what is empty between two separators is none.

    >>> documents_of(b"one\\n\\n\\n\\ntwo\\n\\n", b"\\n\\n")
    [b'one', b'two']
    """
    return [document for document in text.split(separator) if document]


def deal(lengths: NDArray[np.int64], config: CorpusConfig, *, name: str = "the text") -> dict[str, NDArray[np.int64]]:
    """Positions of the documents of every part, ascending: in a random order, each part takes until it has its size.

    Args:
        lengths: (D,) bytes of each document, its separator included.
        name: what errors call the text."""
    # The held-out parts are dealt first, so that they do not depend on the size of the training text.
    wanted = {**{part: getattr(config, part) for part in HELD_OUT}, "train": config.train}
    if (dealt := _dealt(lengths, wanted, config.seed)) is not None:
        return dealt
    total = int(lengths.sum())
    smaller: dict[str, int | None] = {**dict.fromkeys(HELD_OUT, total // 8), "train": total // 2}
    if _dealt(lengths, smaller, config.seed) is not None:
        give = "smaller sizes, such as " + " ".join(f"--corpus.{part} {size}" for part, size in smaller.items())
    else:
        give = "a longer text, or another --corpus.separator: it is what stands between two documents, now " + repr(
            config.separator
        )
    many = "1 document" if len(lengths) == 1 else f"{len(lengths)} documents"
    raise DataError(
        f"{name} has {many} of {total} bytes in all, too few for corpus.validation + prior + "
        f"test + train = {' + '.join('the rest' if w is None else str(w) for w in wanted.values())} bytes; give {give}"
    )


def _dealt(lengths: NDArray[np.int64], wanted: Mapping[str, int | None], seed: int) -> dict[str, NDArray[np.int64]] | None:
    """What `deal` returns for these sizes; None: there is too little."""
    order = torch.randperm(len(lengths), generator=generator(seed, "corpus", "deal")).numpy()
    ends = np.cumsum(lengths[order])
    dealt, first = {}, 0
    for part, size in wanted.items():
        before = int(ends[first - 1]) if first else 0
        last = len(order) if size is None else int(np.searchsorted(ends, before + size)) + 1
        if last > len(order) or last == first:
            return None
        dealt[part], first = np.sort(order[first:last]), last
    return dealt


def _tokenise(text: bytes, config: CorpusConfig, path: Path, unit: str, *, name: str) -> None:
    separator = config.separator.encode()
    documents = documents_of(text, separator)
    lengths = np.array([len(document) + len(separator) for document in documents], dtype=np.int64)
    dealt = deal(lengths, config, name=name)
    tokenizer = tokenizer_of(config, [documents[i] for i in dealt["train"]])
    encoded = tokenizer.encode(documents)
    bounds = np.cumsum([0, *(len(ids) + 1 for ids in encoded)])
    tokens = np.full(bounds[-1], tokenizer.end, dtype=np.uint16 if tokenizer.vocabulary <= 2**16 else np.int32)
    for start, ids in zip(bounds, encoded, strict=False):
        tokens[start : start + len(ids)] = ids
    arrays = {"tokens": tokens, "bounds": bounds, **dealt}
    meta = {
        "vocabulary": tokenizer.vocabulary,
        "end": tokenizer.end,
        "bytes": {part: int(lengths[positions].sum()) for part, positions in dealt.items()},
    }
    save_tensors(path, {key: torch.from_numpy(array) for key, array in arrays.items()}, meta, unit=unit)
