"""Documents, parts and rows: nothing lost, nothing leaked, everything decided by seeds."""

import bz2
import codecs
import gzip
import lzma
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from decouple.config import CorpusConfig
from decouple.errors import ConfigError, DataError, SettingError
from decouple.text import Documents, load_corpus
from decouple.text.corpus import read_text
from decouple.text.tokenizer import tokenizer_of

SETTINGS = CorpusConfig(validation=300, prior=300, test=400)
CONTEXT = 10


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """200 documents, every one different, of 5 to 40 bytes."""
    words = random.Random(0)
    documents = [f"{i}:" + "".join(words.choices("abcdé ", k=words.randrange(3, 30))).strip() + "\n;" for i in range(200)]
    file = tmp_path / "text.txt"
    file.write_bytes("\n\n".join(documents).encode())
    return file


def read(part: Documents, *, seed: int | None = None, epoch: int = 0) -> list[bytes]:
    """The documents that the targets of an epoch hold, in their order."""
    _, targets = part.stream(seed=seed, epoch=epoch).batch(torch.arange(part.rows(CONTEXT)), CONTEXT)
    ids = [i for i in targets.flatten().tolist() if i != -100]
    assert len(ids) == len(part)
    documents, current = [], []
    for i in ids:
        if i == part.end:
            documents.append(bytes(current))
            current = []
        else:
            current.append(i)
    return documents


def test_the_parts_share_no_document_and_lose_none(text: Path, tmp_path: Path) -> None:
    corpus = load_corpus(text, SETTINGS, tmp_path)
    parts = [read(part) for part in (corpus.train, corpus.validation, corpus.prior, corpus.test)]
    together = [document for part in parts for document in part]
    assert len(together) == len(set(together))
    assert sorted(together) == sorted(text.read_bytes().split(b"\n\n"))
    assert [part.bytes for part in (corpus.validation, corpus.prior, corpus.test)] == pytest.approx([300, 300, 400], abs=45)
    assert sum(map(len, together)) + 2 * len(together) == sum(
        part.bytes for part in (corpus.train, corpus.validation, corpus.prior, corpus.test)
    )


def test_a_smaller_training_text_is_part_of_a_larger_one(text: Path, tmp_path: Path) -> None:
    small, large = (load_corpus(text, replace(SETTINGS, train=size), tmp_path) for size in (500, 900))
    assert set(read(small.train)) < set(read(large.train))
    assert read(small.test) == read(large.test)
    assert read(load_corpus(text, replace(SETTINGS, seed=1), tmp_path).test) != read(small.test)


def test_an_epoch_shuffles_documents_as_seed_and_epoch_say(text: Path, tmp_path: Path) -> None:
    train = load_corpus(text, SETTINGS, tmp_path).train
    first, again, later, other = (read(train, seed=s, epoch=e) for s, e in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert first == again
    assert sorted(first) == sorted(later) == sorted(other)
    assert len({tuple(first), tuple(later), tuple(other)}) == 3


def test_targets_follow_inputs_and_rows_join(text: Path, tmp_path: Path) -> None:
    train = load_corpus(text, SETTINGS, tmp_path).train
    inputs, targets = train.stream(seed=0).batch(torch.arange(train.rows(CONTEXT)), CONTEXT)
    assert int(inputs[0, 0]) == train.end, "the first token is predicted from an end mark"
    counted = targets.flatten()[: len(train)]
    assert torch.equal(inputs.flatten()[1 : len(train)], counted[:-1])
    assert bool((targets.flatten()[len(train) :] == -100).all())
    some, all_targets = train.stream(seed=0).batch(torch.tensor([3, 1]), CONTEXT)
    assert torch.equal(some, inputs[[3, 1]])
    assert torch.equal(all_targets, targets[[3, 1]])


def test_bits_per_byte_of_an_even_guess(text: Path, tmp_path: Path) -> None:
    part = load_corpus(text, SETTINGS, tmp_path).test
    assert part.bits_per_byte(math.log(257)) == pytest.approx(math.log2(257) * len(part) / part.bytes)


def test_the_token_file_is_checked_and_made_again(text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = read(load_corpus(text, SETTINGS, tmp_path).train)
    (file,) = tmp_path.glob("tokens-*.safetensors")
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.unlink()
    file.write_bytes(data)
    assert read(load_corpus(text, SETTINGS, tmp_path).train) == before
    assert "damaged" in caplog.text


def test_tokens_are_mapped_not_copied(text: Path, tmp_path: Path) -> None:
    corpus = load_corpus(text, SETTINGS, tmp_path)
    assert corpus.train.tokens.dtype == np.uint16
    assert np.shares_memory(corpus.train.tokens, corpus.test.tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": 100_000}, r"text\.txt has 200 documents of \d+ bytes in all, too few"),
        ({"train": 100_000}, r"too few for .* = 300 \+ 300 \+ 400 \+ 100000 bytes"),
        ({"separator": "no such thing"}, r"has 1 document of .*another corpus\.separator.* now 'no such thing'"),
    ],
)
def test_texts_that_do_not_suffice_are_refused(text: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_corpus(text, replace(SETTINGS, **change), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", ["", "\udce9"])
def test_separators_that_separate_nothing_are_refused(separator: str) -> None:
    with pytest.raises(SettingError, match="separator = "):
        replace(SETTINGS, separator=separator)


def test_the_sizes_that_a_refusal_names_suffice(text: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="smaller sizes, such as") as refused:
        load_corpus(text, replace(SETTINGS, test=100_000), tmp_path)
    sizes = {part: int(size) for part, size in re.findall(r"--corpus\.(\w+) (\d+)", refused.value.message)}
    assert set(sizes) == {"train", "validation", "prior", "test"}
    corpus = load_corpus(text, replace(SETTINGS, **sizes), tmp_path)  # type: ignore[arg-type]
    assert len(corpus.train) > 2 * len(corpus.test) > 0


def _windows(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("write", "notes"),
    [
        (_windows, ("line ends CR LF taken as LF",)),
        (lambda text: text.replace(b"\n", b"\r"), ("line ends CR taken as LF",)),
        (lambda text: b"\xef\xbb\xbf" + text, ("from UTF-8 with a byte order mark",)),
        (lambda text: text.decode().encode("utf-16"), ("from UTF-16-LE with a byte order mark",)),
        (
            lambda text: codecs.BOM_UTF16_BE + _windows(text).decode().encode("utf-16-be"),
            ("from UTF-16-BE with a byte order mark", "line ends CR LF taken as LF"),
        ),
        (lambda text: gzip.compress(text, 1, mtime=0), ("unpacked by gzip",)),
        (lambda text: gzip.compress(text[:99], 1, mtime=0) + gzip.compress(text[99:], 1, mtime=0), ("unpacked by gzip",)),
        (lambda text: bz2.compress(_windows(text)), ("unpacked by bz2", "line ends CR LF taken as LF")),
        (lzma.compress, ("unpacked by lzma",)),
        (lambda text: text, ()),
    ],
)
def test_a_text_is_the_same_however_it_is_written(
    text: Path, tmp_path: Path, write: Callable[[bytes], bytes], notes: tuple[str, ...]
) -> None:
    plain = load_corpus(text, SETTINGS, tmp_path)
    (tmp_path / "other.txt").write_bytes(write(text.read_bytes()))
    other = load_corpus(tmp_path / "other.txt", SETTINGS, tmp_path)
    assert other.digest == plain.digest
    assert read(other.train) == read(plain.train)
    assert other.notes == notes


def test_line_ends_that_the_separator_names_stay(text: Path, tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes(_windows(text.read_bytes()))
    corpus = load_corpus(tmp_path / "windows.txt", replace(SETTINGS, separator="\r\n\r\n"), tmp_path)
    assert all(document.endswith(b"\r\n;") for document in read(corpus.train))
    assert corpus.notes == ()


def test_a_return_inside_a_line_stays(tmp_path: Path) -> None:
    (tmp_path / "progress.txt").write_bytes(b"1 %\r2 %\n")
    assert read_text(tmp_path / "progress.txt") == (b"1 %\r2 %\n", ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"a text" * 99, mtime=0)[:-9], r"is a damaged gzip file \(Compressed file ended"),
        (gzip.compress(b"a text" * 99, mtime=0)[:-8] + bytes(8), r"is a damaged gzip file \(CRC check failed"),
        (bz2.compress(b"a text" * 99)[:-4], "is a damaged bz2 file"),
        (lzma.compress(b"a text" * 99)[:-4], "is a damaged lzma file"),
        (b"PK\x03\x04 word/document.xml", "is a ZIP archive, not a text"),
        (b"%PDF-1.7", "is a PDF, not a text"),
        ("a text, é".encode("utf-16-le"), "looks like UTF-16 without a byte order mark; convert it to UTF-8"),
        ("a text, é".encode("utf-16-be"), "looks like UTF-16 without"),
        (codecs.BOM_UTF16_LE + b"odd", r"begins as UTF-16-LE and is not \(truncated data\)"),
        (b"", "has 0 documents of 0 bytes in all, too few"),
    ],
)
def test_files_that_hold_no_text_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_corpus(tmp_path / "text.txt", SETTINGS, tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.txt cannot be read"):
        load_corpus(tmp_path / "missing.txt", SETTINGS, tmp_path)


def test_byte_pairs_give_the_text_back_in_fewer_tokens(text: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    settings = replace(SETTINGS, vocabulary=300)
    corpus, plain = load_corpus(text, settings, tmp_path), load_corpus(text, SETTINGS, tmp_path)
    assert corpus.vocabulary == 300
    assert len(corpus.test) < len(plain.test)
    assert corpus.test.bytes == plain.test.bytes
    documents = text.read_bytes().split(b"\n\n")
    pairs = tokenizer_of(settings, documents)
    import tokenizers

    decoder = tokenizers.decoders.ByteLevel()
    written = [decoder.decode([pairs.inner.id_to_token(i) for i in ids]) for ids in pairs.encode(documents)]  # type: ignore[attr-defined]
    assert [document.encode() for document in written] == documents
    assert pairs.end not in np.concatenate(pairs.encode([b"<|end|>"]))


def test_byte_pairs_need_their_package_and_utf8(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, vocabulary=300)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "tokenizers", None)
        with pytest.raises(ConfigError, match=r"not installed: pip install 'decouple-learn\[text\]'"):
            load_corpus(text, settings, tmp_path)
    pytest.importorskip("tokenizers")
    with pytest.raises(DataError, match="not UTF-8"):
        tokenizer_of(settings, [b"caf\xe9 au lait"])
