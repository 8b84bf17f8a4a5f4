from __future__ import annotations

import contextlib
import json
import re

import numpy as np
import pytest

from asr.errors import DataError, InputError
from asr.text.alphabet import Alphabet, join_bytes
from asr.text.label_files import read_labels
from asr.text.labels import Labels
from asr.text.subwords import Subwords

BPE = ["<unk>", "▁the", "s", "▁a"]


@pytest.mark.parametrize(
    ("source", "blank", "alphabet", "blank_column", "num_columns"),
    [
        ([*BPE, "<blk>"], None, Subwords((" the", "s", " a")), 4, 5),
        (BPE, "append", Subwords((" the", "s", " a")), 4, 5),  # NeMo
        ({"<blk>": 0, "<sos/eos>": 1, "▁the": 2, "S": 3}, None, Subwords((" the", "S")), 0, 4),  # icefall
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##a", "b"], None, Subwords(("a", " b")), 0, 7),
        (["<pad>", "<s>", "|", "A", "B"], None, Alphabet((" ", "A", "B")), 0, 5),
        (["<blank>", "<space>", "我", "你", "<sos/eos>"], None, Alphabet((" ", "我", "你")), 0, 5),  # WeNet
        (["<blk>", "<0xE6>", "我"], None, Subwords(("\U0010ffe6", "我")), 0, 3),
        (["", "A", "<0x41>"], None, Subwords(("A", "A")), 0, 3),  # two labels with one spelling
        ([" ", "a", "b"], "append", Alphabet((" ", "a", "b")), 3, 4),
        (["<pad>", "Ġ", "Ħ", "Ż", "|"], None, Alphabet(("Ġ", "Ħ", "Ż", " ")), 0, 5),  # Maltese, not bytes
        (["<blk>", "<space>", "Ġ", "Ż"], None, Alphabet((" ", "Ġ", "Ż")), 0, 4),
        (["<pad>", "Ġ", "a", "Ã", "©"], None, Subwords((" ", "a", "\U0010ffc3", "\U0010ffa9")), 0, 5),  # bytes
        (["", "ক\u09df", "\u09df"], None, Subwords(("ক\u09af\u09bc", "\u09af\u09bc")), 0, 3),  # all in NFC
        ({"<pad>": np.int64(1), "a": np.int64(0)}, None, Alphabet(("a",)), 1, 2),
    ],
)
def test_labels_become_an_alphabet_or_subwords(source, blank, alphabet, blank_column, num_columns):
    labels = Labels(source, blank=blank)
    assert labels.alphabet == alphabet
    assert (labels.blank_column, labels.num_columns) == (blank_column, num_columns)


def test_silent_labels_count_as_the_blank():
    labels = Labels(["<unk>", "▁the", "<|en|>", "s", "<blk>"])
    log_probs = np.log([[0.1, 0.2, 0.3, 0.25, 0.15]])
    assert np.exp(labels.arrange(log_probs)) == pytest.approx(np.array([[0.55, 0.2, 0.25]]))


@pytest.mark.parametrize(
    ("source", "blank", "message"),
    [
        (["", "▁the", "▁the"], None, "labels must differ; repeated: '▁the'"),
        (["", "A", "A"], None, "labels must differ; repeated: 'A'"),
        ({}, None, "labels must have one blank"),
        (
            {chr(column): column for column in range(97, 120)},
            None,
            "labels by name must have the columns 0 .. 22, each once; got 97, 98, 99, 100, 101, 102, 103, 104, 105, "
            "... without 0",
        ),
        (["<s>", "<pad>"], "<pad>", "labels must have at least one label with a character"),
        (BPE, None, "if the list leaves it out, put '' where its column is, or give blank='append' if it is the last"),
        ("A" * 5000, None, "labels must be a list of strings, one for each column; got"),
        ("no file", None, "labels must be a list of strings, one for each column; got 'no file', which is no file"),
    ],
)
def test_other_labels_are_refused(source, blank, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Labels(source, blank=blank)


# --- files -----------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def sentence_piece_model(pieces: list[tuple[str, int]]) -> bytes:
    """A model with pieces and types, and parts that a reader of pieces must skip."""
    body = b""
    for text, kind in pieces:
        score = varint(2 << 3 | 5) + b"\0\0\x80\xbf"
        body += field(1, field(1, text.encode()) + score + (varint(3 << 3) + varint(kind) if kind != 1 else b""))
    trainer = varint(3 << 3) + varint(70_000) + varint(9 << 3 | 1) + bytes(8)
    return field(2, trainer) + body + field(3, field(1, b"nmt_nfkc"))


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("tokens.txt", "<blk> 0\n▁THE 2\nS 1\n#0 3\n#1 4\n", ["<blk>", "S", "▁THE"]),
        ("tokens.txt", "<blk>\t0\r\n \t1\r\na\t2\r\n", ["<blk>", " ", "a"]),
        ("tokens.txt", "\ufeff 0\na  1 \n\n<blk> 2\n\n", [" ", "a", "<blk>"]),  # sherpa-onnx trims lines, too
        ("vocab.txt", "[PAD]\nthe\n##s\n", ["[PAD]", "the", "##s"]),
        ("vocab.txt", "<blank>\n \na", ["<blank>", " ", "a"]),
        ("labels.txt", "<blank>\n1\n2\n", ["<blank>", "1", "2"]),  # digits are labels
        ("vocab.json", json.dumps({"A": 1, "<pad>": 0, "|": 2}), ["<pad>", "A", "|"]),
        ("vocab.json", json.dumps(["<pad>", "A"]), ["<pad>", "A"]),
        (
            "tokenizer.json",
            json.dumps(
                {
                    "added_tokens": [{"id": 0, "content": "<pad>"}, {"id": 3, "content": "<s>"}],
                    "model": {"type": "BPE", "vocab": {"<pad>": 0, "Ġa": 2, "b": 1}},
                }
            ),
            ["<pad>", "b", "Ġa", "<s>"],
        ),
        (
            "tokenizer.json",
            json.dumps({"added_tokens": [], "model": {"vocab": [["<pad>", 0.0], ["▁a", -1.5]]}}),
            ["<pad>", "▁a"],
        ),
        (
            "tokenizer.model",
            sentence_piece_model([("<unk>", 2), ("▁the", 1), ("pad", 3), ("<0x41>", 6), ("é" * 80, 1), ("x", 4)]),
            ["<unk>", "▁the", "<pad>", "<0x41>", "é" * 80, "x"],
        ),
    ],
)
def test_files_give_their_labels(tmp_path, name, content, labels):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_labels(path) == labels


def test_a_column_of_thousands_of_digits_is_part_of_a_label(tmp_path):
    (tmp_path / "tokens.txt").write_text(f"a {'9' * 5000}\n")
    assert read_labels(tmp_path / "tokens.txt") == [f"a {'9' * 5000}"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokens.txt", "a 0\nb 0\n", r"labels must have the columns 0 \.\. 1, each once; got 0, 0"),
        ("tokens.txt", "a 0\nb\nc 2\n", r"tokens.txt:2: each line must be a label and its column, .*; got 'b'"),
        ("tokens.txt", "0 <blk>\n1 1\n2 2\n", "a label must come before its column, as in 'a 1'; here the columns"),
        ("dict.txt", "E 94802\nT 51860\n", r"labels must have the columns 0 \.\. 1, each once; got 94802, 51860"),
        ("vocab.json", '{"a": 0, "b": 2}', r"labels must have the columns 0 \.\. 1, each once; got 0, 2"),
        ("vocab.json", '{"a": "0"}', "each label must be a text with a whole number, its column"),
        (
            "vocab.json",
            '{"eng": {"a": 0}, "deu": {"a": 0}}',
            "one vocabulary, not one for each of eng, deu .*; give the",
        ),
        ("vocab.json", "[1, 2]", "this file must have a vocabulary: labels with their columns, or a list of labels"),
        (
            "tokenizer.json",
            '{"model": {"vocab": {"a": 0}}, "added_tokens": 5}',
            "added_tokens must be a list of objects",
        ),
        (
            "tokenizer.json",
            '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": [1], "id": 1}]}',
            "added_tokens must have a text each",
        ),
        ("tokens.txt", f"a {'9' * 18}\n", r"labels must have the columns 0 \.\. 0, each once; got 9{18}$"),
        ("vocab.json", "{", "this file of labels must be JSON"),
        ("bpe.model", b"\x0a\x05\x0a\x09abc", "this file must be a model of SentencePiece; it is damaged"),
        ("bpe.model", b"<html>", "this file must be a model of SentencePiece; it is damaged"),
        ("bpe.model", b"", "this file must be a model of SentencePiece; it has no pieces"),
        ("bpe.model", b"\x80" * 12, "this file must be a model of SentencePiece; it is damaged"),
        ("missing.txt", None, "this file of labels cannot be read: No such file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_labels(path)


def test_a_damaged_model_never_raises_anything_else(rng, tmp_path):
    content = sentence_piece_model([("<unk>", 2), ("▁the", 1), ("s", 1)])
    path = tmp_path / "bpe.model"
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, len(damaged) + 1)])
        with contextlib.suppress(DataError):
            assert all(isinstance(label, str) for label in read_labels(path))


def test_real_files_of_tokenizers(tmp_path):
    """Oracle: the libraries that write these files."""
    spm = pytest.importorskip("sentencepiece")
    tokenizers = pytest.importorskip("tokenizers")
    texts = ["the cat sat on the mat", "cats and mats are the best of things", "a café in the old town"] * 20
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tmp_path / "spm"),
        vocab_size=290,
        hard_vocab_limit=False,
        byte_fallback=True,
        minloglevel=2,
    )
    model = spm.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    labels = read_labels(tmp_path / "spm.model")
    assert labels == [model.id_to_piece(number) for number in range(len(model))]
    ours = Labels(labels, blank="append")
    tokens = [ours.columns.index(token) + 1 for token in model.encode("the café mats €")]
    assert isinstance(ours.alphabet, Subwords)
    assert join_bytes(ours.alphabet.decode(tokens)) == " the café mats €"
    for kind in (tokenizers.ByteLevelBPETokenizer, tokenizers.BertWordPieceTokenizer):
        tokenizer = kind()
        tokenizer.train_from_iterator(texts, vocab_size=300)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        vocabulary = tokenizer.get_vocab()
        assert read_labels(tmp_path / "tokenizer.json") == sorted(vocabulary, key=vocabulary.__getitem__)
