"""ARPA files: what may be in them, what may not, and KenLM's word for it."""

from __future__ import annotations

import gzip
import lzma
import os
import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrWarning, DataError
from asr.lm import arpa
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.ngram import NgramModel
from tests.oracles import load_or_skip

TEXT = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-2.0\t<unk>
-99\t<s>\t-0.3
-1.0\t</s>
-0.7\tone\t-0.2
-0.9\ttwo\t-0.1

\\2-grams:
-0.4\t<s> one\t-0.05
-0.3\tone two
-0.6\ttwo </s>
-0.8\ttwo one\t-0.25

\\3-grams:
-0.1\t<s> one two
-0.2\ttwo one two

\\end\\
"""
SENTENCE = ["one", "two", "one", "two", "three"]
# <s> one two | one backs off: one two (no weight), then two one | two one two | three: one two, two, nothing | end
EXPECTED = [-0.4, -0.1, 0 - 0.8, -0.2, 0 - 0.1 - 2.0, -1.0]


def log10_scores(path, words=SENTENCE):
    return NgramModel(*read_arpa(path)).score(words) / np.log(10)


def write(folder, content: str | bytes, name="lm.arpa"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_scores_worked_by_hand(tmp_path):
    np.testing.assert_allclose(log10_scores(write(tmp_path, TEXT)), EXPECTED, atol=1e-6)


def reorder(text: str) -> str:
    """The n-grams of each length backwards."""
    parts = text.split("\n\n")
    backwards = ["\n".join([lines[0], *lines[:0:-1]]) for part in parts[1:-1] if (lines := part.split("\n"))]
    return "\n\n".join([parts[0], *backwards, parts[-1]])


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\t", "  "),
        lambda text: text.replace(" ", "\t").replace("ngram\t", "ngram "),
        lambda text: text.replace("\n", "  \t\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("\n", "\n \t\r\n"),
        lambda text: text.replace("ngram 1=5", "ngram  1 = 5"),
        lambda text: text.replace("<unk>", "<UNK>"),
        lambda text: text.replace("-99", "0"),
        lambda text: text.replace("<s> one two", "<s> one two\t-0.5"),  # the longest have no use for a back-off
        lambda text: text.replace("-0.6\ttwo </s>", "-0.6\ttwo </s>\t0"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "anything else\n\\data\\",
        lambda text: "\ufeff" + text,
        lambda text: "made by a tool\n\\a comment\n\n" + text,
        reorder,
    ],
)
def test_other_spellings_of_the_same_model(tmp_path, spell):
    assert spell(TEXT) != TEXT
    np.testing.assert_allclose(log10_scores(write(tmp_path, spell(TEXT))), EXPECTED, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_pieces_of_any_size_are_read_alike(tmp_path, monkeypatch, size):
    monkeypatch.setattr(arpa, "_READ_BYTES", max(size, 3))  # three for the byte-order mark
    np.testing.assert_allclose(log10_scores(write(tmp_path, TEXT)), EXPECTED, atol=1e-6)
    with pytest.raises(DataError, match=r"lm.arpa:14: .*must be 0 or less, not 0.4"):
        read_arpa(write(tmp_path, TEXT.replace("-0.4\t<s>", "0.4\t<s>")))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_packed_files_are_known_by_their_bytes(tmp_path, pack):
    np.testing.assert_allclose(log10_scores(write(tmp_path, pack(TEXT.encode()))), EXPECTED, atol=1e-6)
    with pytest.raises(DataError, match=r"lm.arpa: the language model is damaged or truncated: "):
        read_arpa(write(tmp_path, pack(TEXT.encode())[:-20]))


def test_words_of_any_script_and_shape(tmp_path):
    words = ["été", "我", "\\end\\", "-1.5", "a\u00a0b", "1=5"]
    lines = "".join(f"-1\t{word}\n" for word in words)
    path = write(tmp_path, f"\\data\\\nngram 1={len(words) + 1}\n\\1-grams:\n{lines}-2 </s>\n\\end\\\n")
    model = NgramModel(*read_arpa(path))
    assert model.words == ("<unk>", *words, "</s>")
    np.testing.assert_allclose(model.score(words) / np.log(10), [-1] * len(words) + [-2])


def test_without_unk_unknown_words_cost_a_hundred(tmp_path):
    path = write(tmp_path, TEXT.replace("-2.0\t<unk>\n", "").replace("1=5", "1=4"))
    np.testing.assert_allclose(log10_scores(path), [*EXPECTED[:4], -100.1, -1.0], atol=1e-5)


def test_without_start_sentences_begin_from_nothing(tmp_path):
    path = write(tmp_path, "\\data\\\nngram 1=2\n\\1-grams:\n-1 a -0.5\n-2 </s>\n\\end\\\n")
    model = NgramModel(*read_arpa(path))
    assert model.tables.start_state == model.tables.empty_state == 0
    np.testing.assert_allclose(model.score(["a"]) / np.log(10), [-1, -2], atol=1e-6)


def test_without_end_there_is_a_warning(tmp_path):
    path = write(tmp_path, "\\data\\\nngram 1=2\n\\1-grams:\n-1 a\n-3 <unk>\n\\end\\\n")
    with pytest.warns(AsrWarning, match=r"lm.arpa: has no </s>; ends of sentences are scored as <unk>"):
        model = NgramModel(*read_arpa(path))
    np.testing.assert_allclose(model.score(["a"]) / np.log(10), [-1, -3], atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("ngram 2=4", "ngram 2=5", 3, "declares 5 n-grams of 2, but the file has 4; it is damaged, or was edited"),
        ("ngram 3=2", "ngram 3=1", 4, "declares 1 n-grams of 3, but the file has 2"),
        ("ngram 2=4", "ngram 3=4", 3, "ngram 2=COUNT must come next, but the line is 'ngram 3=4'"),
        ("ngram 2=4", "ngrams: 4", 3, "ngram 2=COUNT must come next, but the line is 'ngrams: 4'"),
        ("\\2-grams:", "\\3-grams:", 13, r"\\2-grams: must come next, but the line is '\\\\3-grams:'"),
        ("\\3-grams:", "\\end\\", 19, r"\\3-grams: must come next, but the line is '\\\\end\\\\'"),
        ("\\end\\", "\\4-grams:", 23, r"\\end\\ must come next, but the line is '\\\\4-grams:'"),
        ("\\end\\\n", "", None, r"truncated: it ends without \\end\\"),
        (TEXT[110:], "", None, r"truncated: it ends without \\end\\"),
        ("\\data\\\n", "", None, r"an ARPA file must have a line \\data\\, but this file has none; .*KenLM"),
        ("one two\n-0.6", "one two three -1 -2\n-0.6", 15, "of 2 needs 3 columns, or 4 with .* has 6"),
        ("one two\n-0.6", "one\n-0.6", 15, "of 2 needs 3 columns, or 4 with .* has 2"),
        ("-0.7\tone\t-0.2", "-0.7\tone\tmore\t-0.2", 10, "of 1 needs 2 columns, or 3 with .* has 4"),
        ("-0.3\tone", "0.3\tone", 15, "log10 of a probability must be 0 or less, not 0.3"),
        ("-0.3\tone", "nan\tone", 15, "a number must be finite; got 'nan'"),
        ("-0.7\tone\t-0.2", "-0.7\tone\t-inf", 10, "a number must be finite; got '-inf'"),
        ("-0.3\tone", "-0,3\tone", 15, "a number must be finite; got '-0,3'"),
        ("-0.25", "inf", 17, "a number must be finite; got 'inf'"),
        ("-0.25", "three", 17, "a number must be finite; got 'three'"),
        ("-0.2\ttwo one two", "-0.2\ttwo one six", 21, "words must be listed among the 1-grams, but 'six' is not"),
        ("-0.2\ttwo one two", "-0.2\tone one two", 21, "'one one two' needs 'one one' among the 2-grams"),
        ("-0.2\ttwo one two", "-0.2\t<s> one two", 21, "may occur once, but '<s> one two' occurred before in line 20"),
        ("-0.9\ttwo", "-0.9\tone", 11, "may occur once, but 'one' occurred before"),
        ("-1.0\t</s>", "-1.0\t<UNK>", 9, "may occur once, but '<UNK>' occurred before"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, old, new, line, message):
    assert TEXT.count(old) == 1
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(DataError, match=message) as error:
        read_arpa(path)
    assert (error.value.path, error.value.line) == (str(path), line)


def test_a_probability_of_zero_is_that_of_srilm(tmp_path):
    zero = TEXT.replace("-99\t<s>", "-inf\t<s>")
    assert zero != TEXT
    expected, tables = read_arpa(write(tmp_path, TEXT))[1], read_arpa(write(tmp_path, zero))[1]
    np.testing.assert_array_equal(tables.log_probs, expected.log_probs)
    path = write(tmp_path, TEXT.replace("-0.3\tone", "-INF\tone"))
    assert (read_arpa(path)[1].log_probs == np.float32(-99 * np.log(10))).sum() == 2


def test_words_must_be_utf8(tmp_path):
    path = write(tmp_path, TEXT.encode().replace(b"-0.9\ttwo", b"-0.9\ttw\xf3"))
    with pytest.raises(DataError, match=r"lm.arpa:11: words must be UTF-8, and b'tw\\xf3' is not; convert the file"):
        read_arpa(path)


def test_back_offs_weigh_where_nothing_longer_is_listed(tmp_path):
    text = "\\data\\\nngram 1=2\nngram 2=0\n\\1-grams:\n-1 a BACKOFF\n-2 </s>\n\\2-grams:\n\\end\\\n"
    path = write(tmp_path, text.replace("BACKOFF", "-0.5"))
    np.testing.assert_allclose(log10_scores(path, ["a"]), [-1, -2.5], atol=1e-6)
    write_arpa(path, *read_arpa(path))
    np.testing.assert_allclose(log10_scores(path, ["a"]), [-1, -2.5], atol=1e-6)
    assert NgramModel(*read_arpa(write(tmp_path, text.replace("BACKOFF", "")))).order == 1


@pytest.mark.parametrize("content", ["", "\\data\\\n\\end\\\n", "\\data\\\nngram 1=0\n\\1-grams:\n\\end\\\n"])
def test_a_model_must_have_words(tmp_path, content):
    with pytest.raises(DataError, match=r"must have words|an ARPA file must have"):
        read_arpa(write(tmp_path, content))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match=r"none\.arpa: the language model cannot be read: No such file"):
        read_arpa(tmp_path / "none.arpa")
    with pytest.raises(DataError, match="cannot be read: it must be a regular file, not a folder"):
        read_arpa(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe"), ("/dev/zero", "device")):  # neither of which ever ends
        with pytest.raises(
            DataError, match=f"the language model cannot be read: it must be a regular file, not a {kind}"
        ):
            read_arpa(path)
    with pytest.raises(DataError, match="cannot be read: embedded null byte"):
        read_arpa("a\0b")


def test_a_pipe_that_the_user_opened_is_read(tmp_path):
    """As the shell's <(zcat lm.gz) is."""
    read, write_end = os.pipe()
    os.write(write_end, TEXT.encode())
    os.close(write_end)
    words, _ = read_arpa(f"/dev/fd/{read}")
    os.close(read)
    assert words == read_arpa(write(tmp_path, TEXT))[0]


def test_bombs_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(arpa, "_READ_BYTES", 1 << 12)
    lines = b"-0.4\t<s> one\t-0.05\n" * 200_000
    whole = TEXT.encode().replace(b"ngram 2=4", b"ngram 2=25").replace(b"-0.4\t<s> one\t-0.05\n", lines)
    for content, message in (
        (
            gzip.compress(whole),
            "lm.arpa:3: the header declares 25 n-grams of 2, but the file has [0-9]+ or more; it is damaged",
        ),
        (
            lzma.compress(whole),
            "lm.arpa:3: the header declares 25 n-grams of 2, but the file has [0-9]+ or more; it is damaged",
        ),
        (
            gzip.compress(b"\\data\\\n" + b"\n" * 10**7),
            "must decompress to at most 50 times its size, but this one is larger; decompress it yourself",
        ),
        (b"x\n" * 200_000, r"a line \\data\\ must come within the first 100000 lines"),
        (b"\\data\\\n" + b"x" * (2 << 20), "lm.arpa:2: a line must have at most 1048576 bytes, but this one has more"),
        (TEXT.replace("ngram 3=2", "ngram 3=31"), "more than 5 shorter ones and 6 words can make"),
        (
            TEXT.replace("ngram 3=2", "ngram 3=" + "9" * 5000),
            "ngram 3=COUNT must come next, but the line is 'ngram 3=999",
        ),
        (
            TEXT.replace("ngram 3=2\n", "".join(f"ngram {n}=2\n" for n in range(3, 102))),
            "n-grams must have at most 100 words, but the file has longer ones",
        ),
        (TEXT.replace("-0.25", "-1e300"), "a number must be finite; got '-1e300'"),
    ):
        with pytest.raises(DataError, match=message):
            read_arpa(write(tmp_path, content))


@pytest.mark.parametrize("name", ["x.arpa", "x.arpa.gz", "x.arpa.xz"])
def test_what_is_written_is_read_again(tmp_path, name, monkeypatch):
    words, tables = read_arpa(write(tmp_path, TEXT))
    write_arpa(tmp_path / name, words, tables)
    content = (tmp_path / name).read_bytes()
    monkeypatch.setattr(arpa, "_WRITE_LINES", 2)
    write_arpa(tmp_path / name, words, tables)
    if name != "x.arpa.xz":
        assert (tmp_path / name).read_bytes() == content
    again, tables_again = read_arpa(tmp_path / name)
    assert again == words
    for field, value in tables._asdict().items():
        np.testing.assert_allclose(getattr(tables_again, field), value, atol=1e-5, err_msg=field)


def test_written_files_are_plain(tmp_path):
    write_arpa(tmp_path / "x.arpa", *read_arpa(write(tmp_path, TEXT)))
    filled = TEXT.replace("-2.0\t<unk>", "-2\t<unk>\t0").replace("-1.0\t</s>", "-1\t</s>\t0")
    filled = filled.replace("one two\n-0.6\ttwo </s>", "one two\t0\n-0.6\ttwo </s>\t0")
    lines = (tmp_path / "x.arpa").read_text().split("\n")
    assert sorted(lines) == sorted(filled.split("\n"))


Gram = tuple[str, ...]
Grams = dict[Gram, tuple[float, float]]  # log10 of probability and back-off


@st.composite
def random_models(draw, *, closed: bool) -> tuple[list[Grams], random.Random]:
    """N-grams of each length, any at all whose contexts are there and, if `closed`, whose ends are too; and chance."""
    generator = random.Random(draw(st.integers(0, 2**32)))
    words = ["<unk>", "<s>", "</s>", *"abcde"[: draw(st.integers(1, 5))]][draw(st.integers(0, 1)) :]
    levels = [[(word,) for word in words]]
    for _ in range(draw(st.integers(1, 4))):
        grams = [
            (*context, word)
            for context in levels[-1]
            for word in words
            if context[-1] != "</s>" and word != "<s>" and "<unk>" not in (*context, word)
        ]
        if closed and len(levels) > 1:
            grams = [gram for gram in grams if gram[1:] in levels[-1]]
        if not grams:
            break
        levels.append(generator.sample(grams, generator.randint(1, min(len(grams), 30))))
    return [
        {
            gram: (round(generator.uniform(-5, 0), 4), round(generator.choice([0, generator.uniform(-2, 0.5)]), 4))
            for gram in grams
        }
        for grams in levels
    ], generator


def write_grams(path, levels: list[Grams]) -> None:
    lines = ["\\data\\", *(f"ngram {n}={len(grams)}" for n, grams in enumerate(levels, start=1))]
    for n, grams in enumerate(levels, start=1):
        lines += ["", f"\\{n}-grams:"]
        for gram, (log_prob, back_off) in grams.items():
            lines.append(f"{log_prob}\t{' '.join(gram)}" + (f"\t{back_off}" if back_off and n < len(levels) else ""))
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))


def random_sentences(levels: list[Grams], generator: random.Random) -> list[list[str]]:
    choices = [*(word for (word,) in levels[0] if word not in ("<s>", "</s>")), "unheard"]
    return [generator.choices(choices, k=length) for length in range(12)]


def backed_off(grams: Grams, context: Gram, word: str) -> float:
    """log10 p(word | context), by the definition of ARPA files."""
    if (*context, word) in grams:
        return grams[*context, word][0]
    if not context:
        return grams.get(("<unk>",), (-100.0, 0.0))[0]
    return grams.get(context, (0.0, 0.0))[1] + backed_off(grams, context[1:], word)


@settings(max_examples=60, deadline=None)
@given(model=random_models(closed=False))
def test_scores_are_what_arpa_files_mean(tmp_path_factory, model):
    levels, generator = model
    write_grams(path := tmp_path_factory.mktemp("arpa") / "lm.arpa", levels)
    ours = NgramModel(*read_arpa(path))
    grams = {gram: numbers for level in levels for gram, numbers in level.items()}
    for sentence in random_sentences(levels, generator):
        known = ["<s>", *(word if (word,) in grams else "<unk>" for word in sentence), "</s>"]
        expected = [
            backed_off(grams, tuple(known[max(i - len(levels) + 1, 0) : i]), known[i]) for i in range(1, len(known))
        ]
        np.testing.assert_allclose(ours.score(sentence) / np.log(10), expected, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(model=random_models(closed=True))
def test_kenlm_scores_random_models_alike(tmp_path_factory, model):
    kenlm = load_or_skip("kenlm")
    levels, generator = model
    write_grams(path := tmp_path_factory.mktemp("arpa") / "lm.arpa", levels)
    ours, theirs = NgramModel(*read_arpa(path)), kenlm.Model(os.fspath(path))
    for sentence in random_sentences(levels, generator):
        expected = [score for score, _, _ in theirs.full_scores(" ".join(sentence))]
        np.testing.assert_allclose(ours.score(sentence) / np.log(10), expected, atol=1e-4)
        expected = [score for score, _, _ in theirs.full_scores(" ".join(sentence), bos=False, eos=False)]
        np.testing.assert_allclose(ours.score(sentence, begin=False, end=False) / np.log(10), expected, atol=1e-4)


# A part of the model with which KenLM tests itself, log10 of probability, n-gram, log10 of its back-off, and the scores
# that it expects: kpu/kenlm 4cb443e, lm/test.arpa and lm/model_test.cc, LGPL 2.1 or later; the numbers alone are taken.
# The five-grams from "also" on lack their own ends ("would consider"); back-offs of -20, -12 and +3 show when misread.
KENLM_GRAMS = """
-1.383514 , -0.30103 | -1.139057 . -0.845098 | -1.029493 </s> | -99 <s> -0.4149733 | -1.995635 <unk> -20
-1.285941 a -0.69897 | -1.687872 also -0.30103 | -1.687872 biarritz -0.30103 | -1.687872 consider -0.30103
-1.509559 higher -0.30103 | -1.687872 however -0.30103 | -1.285941 little -0.69897 | -1.383514 loin -0.30103
-1.687872 look -0.30103 | -1.285941 looking -0.4771212 | -1.206319 more -0.544068 | -1.509559 on -0.4771212
-1.687872 the -0.30103 | -1.687872 to -0.30103 | -1.687872 would -0.30103 | -3.141592 foo | -2.718281 bar 3.0
-6.535897 baz | -0.0602359 . </s> | -0.4846522 <s> looking -0.4771214 | -0.09132547 a little -0.69897
-0.09021038 little more -0.1998621 | -0.4638903 looking on -0.4771212 | -0.5136299 more . -0.4771212
-0.3561665 more loin | -0.1649931 on a -0.4771213 | -0.2922095 to look | -2 also would -6 | -15 <unk> <unk> -2
-4 <unk> however -1 | -6 foo bar | -0.01916512 more . </s> | -0.0283603 on a little -0.4771212
-0.01660496 a little more -0.09409451 | -0.3488368 <s> looking on -0.4771212 | -0.1892331 little more loin
-0.04835128 looking on a -0.4771212 | -3 also would consider -7 | -6 <unk> however <unk> -12 | -7 to look a
-0.009249173 looking on a little -0.4771212 | -0.005464747 on a little more -0.4771212
-0.1453306 a little more loin | -0.01552657 <s> looking on a -0.4771212 | -4 also would consider higher -8
-0.003061223 <s> looking on a little | -0.001813953 looking on a little more | -0.0432557 on a little more loin
-5 also would consider higher looking
"""
# LibriSpeech's 3-gram model, openslr.org/11, public domain, as far as flashlight's test asks for it: flashlight/text
# 241adf2, flashlight/lib/text/test/decoder/DecoderTest.cpp, MIT.
FLASHLIGHT_GRAMS = """
-2.348754 </s> | -99 <s> -0.3371602 | -2.752519 <unk> | -4.194476 cat | -4.645894 mat | -2.724869 on -0.05242699
-3.333834 sat -0.04239096 | -2.505692 the | -1.059712 <s> the | -1.162375 on the
"""


def write_published(path, text: str) -> None:
    levels: list[Grams] = []
    for entry in text.replace("\n", "|").strip("|").split("|"):
        log_prob, *gram = entry.split()
        back_off = float(gram.pop()) if gram[-1][-1].isdigit() else 0.0
        levels += [{} for _ in range(len(gram) - len(levels))]
        levels[len(gram) - 1][tuple(gram)] = (float(log_prob), back_off)
    write_grams(path, levels)


@pytest.mark.parametrize(
    ("text", "begin", "expected"),
    [
        (",", True, [-1.383514 - 0.4149733]),
        ("not_found", True, [-1.995635 - 0.4149733]),
        (
            "looking on a little the biarritz not_found more . </s>",
            True,
            [
                *(-0.484652, -0.348837, -0.0155266, -0.00306122, -4.04005),
                *(-1.9889, -2.29666, -1.20632 - 20.0, -0.51363, -0.0191651),
            ],
        ),
        (
            "looking on a little more loin",
            True,
            [-0.484652, -0.348837, -0.0155266, -0.00306122, -0.00181395, -0.0432557],
        ),
        ("looking on", False, [-1.285941, -0.4638903]),
        ("also would consider higher looking", False, [-1.687872, -2.0, -3.0, -4.0, -5.0]),
        ("also would consider not_found", False, [-1.687872, -2.0, -3.0, -1.995635 - 7.0 - 0.30103]),
        ("higher looking not_found", False, [-1.509559, -1.285941 - 0.30103, -1.995635 - 0.4771212]),
        ("higher looking consider", False, [-1.509559, -1.285941 - 0.30103, -1.687872 - 0.4771212]),
        (
            "would consider higher looking",
            False,
            [-1.687872, -1.687872 - 0.30103, -1.509559 - 0.30103, -1.285941 - 0.30103],
        ),
        ("not_found not_found2 not_found3", False, [-1.995635, -15.0, -15.0 - 2.0]),
        ("not_found however not_found3", False, [-1.995635, -4.0, -6.0]),
        ("foo bar bar", False, [-3.141592, -6.0, -2.718281 + 3.0]),
        ("to look a", False, [-1.687872, -0.2922095, -7.0]),
        ("baz", False, [-6.535897]),
    ],
)
def test_scores_of_kenlms_own_test(tmp_path, text, begin, expected):
    write_published(tmp_path / "lm.arpa", KENLM_GRAMS)
    words, end = text.removesuffix(" </s>").split(), text.endswith("</s>")
    found = NgramModel(*read_arpa(tmp_path / "lm.arpa")).score(words, begin=begin, end=end) / np.log(10)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scores_of_flashlights_own_test(tmp_path):
    write_published(tmp_path / "lm.arpa", FLASHLIGHT_GRAMS)
    found = log10_scores(tmp_path / "lm.arpa", ["the", "cat", "sat", "on", "the", "mat"])
    np.testing.assert_allclose(found[:-1], [-1.05971, -4.19448, -3.33383, -2.76726, -1.16237, -4.64589], atol=1e-5)
    assert found.sum() == pytest.approx(-19.5123, abs=1e-4)


def test_ends_of_ngrams_that_are_not_listed_are_passed_over(tmp_path):
    """After a b c d, with neither b c d nor c d in the model, what is known is d; as in pruned models of SRILM."""
    grams = [{(word,): (-1.0, -0.5) for word in ("</s>", "a", "b", "c", "d")}]
    grams += [{("a", "b"): (-0.1, 0.0), ("b", "c"): (-0.1, 0.0), ("d", "a"): (-0.2, 0.0)}]
    grams += [{("a", "b", "c"): (-0.1, 0.0)}, {("a", "b", "c", "d"): (-0.1, 0.0)}]
    write_grams(tmp_path / "lm.arpa", grams)
    found = NgramModel(*read_arpa(tmp_path / "lm.arpa")).score(["a", "b", "c", "d", "a"], end=False) / np.log(10)
    np.testing.assert_allclose(found, [-1, -0.1, -0.1, -0.1, -0.2], atol=1e-6)


def test_a_good_file_gives_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_arpa(write(tmp_path, TEXT))
