"""Text to token ids: bytes, or byte-level byte-pair encoding by the package tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decouple.config import CorpusConfig
from decouple.errors import ConfigError, DataError

END = "<|end|>"
"""The end mark, as byte-pair encoding writes it in its file."""


@dataclass(frozen=True)
class Bytes:
    """Every byte is a token, and 256 the end mark.

    >>> Bytes().encode([b"ab"])[0].tolist()
    [97, 98]
    """

    vocabulary: int = 257
    """Number of ids."""
    end: int = 256
    """Id of the mark that follows every document."""

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.int64]]:
        """The ids of each document, without the end mark."""
        return [np.frombuffer(document, dtype=np.uint8).astype(np.int64) for document in documents]


@dataclass(frozen=True)
class BytePairs:
    """Byte-level byte-pair encoding: frequent sequences of bytes are tokens; whatever comes can be written."""

    inner: Any
    """A tokenizers.Tokenizer."""

    @property
    def vocabulary(self) -> int:
        return self.inner.get_vocab_size()

    @property
    def end(self) -> int:
        return self.inner.token_to_id(END)

    def encode(self, documents: Sequence[bytes]) -> list[NDArray[np.int64]]:
        encoded = self.inner.encode_batch_fast([_text(document) for document in documents], add_special_tokens=False)
        return [np.asarray(one.ids, dtype=np.int64) for one in encoded]


def tokenizer_of(config: CorpusConfig, training: Sequence[bytes]) -> Bytes | BytePairs:
    """The tokenizer that the settings ask for; byte pairs are fitted only on the `training` documents.

    Raises:
        ConfigError: byte pairs, and the package tokenizers is not installed.
        DataError: byte pairs, and a document is not UTF-8.
    """
    if config.vocabulary is None:
        return Bytes()
    try:
        import tokenizers
    except ImportError:
        raise ConfigError(
            f"corpus.vocabulary = {config.vocabulary} needs the package tokenizers, which is not installed: "
            "pip install 'decouple-learn[text]', or give --corpus.vocabulary None for bytes"
        ) from None
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator((_text(document) for document in training), trainer)
    # What looks like the end mark in a text is text.
    inner.encode_special_tokens = True
    return BytePairs(inner)


def _text(document: bytes) -> str:
    try:
        return document.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"the text is not UTF-8 ({error.reason} in {document[max(0, error.start - 10) : error.end + 10]!r}); give "
            "--corpus.vocabulary None for bytes, or convert the file"
        ) from None
