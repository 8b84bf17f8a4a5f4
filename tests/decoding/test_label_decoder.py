from __future__ import annotations

import math
import re
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import asr
from asr.decoding.label_decoder import build_decoder
from asr.errors import AsrWarning, ConfigError, InputError
from asr.text.alphabet import Alphabet
from tests.ctc.enumeration import labelling_probabilities

CHARACTERS = (" ", "A", "B", "C")


@pytest.fixture
def emission(rng) -> np.ndarray:
    """(T, 5) log-probabilities, Φ in column 0, then a space and letters."""
    return np.log(rng.dirichlet(np.full(5, 0.2), size=30) + 1e-9)


@pytest.mark.parametrize(
    "labels",
    [
        ["", " ", "A", "B", "C"],
        ["A", "B", "C", "|", "<pad>"],
        ["|", "A", "[PAD]", "C", "B"],
        ["▁", "A", "B", "C", "_"],
    ],
)
@pytest.mark.parametrize("logits", [False, True])
def test_the_order_and_the_names_of_labels_change_nothing(emission, labels, logits):
    emission = emission - np.logaddexp.reduce(emission, axis=1, keepdims=True)
    expected = asr.decode(emission, Alphabet(CHARACTERS), asr.DecodingOptions.of(beam_width=16))
    names = {"|": " ", "▁": " ", "<pad>": "", "[PAD]": "", "_": ""}
    order = ["", *CHARACTERS]
    columns = [order.index(names.get(label, label)) for label in labels]
    moved = emission[:, columns] + (7.0 if logits else 0.0)
    decoder = build_decoder(labels, logits=logits)
    for given in (moved, torch.from_numpy(moved)):
        transcript = decoder.decode(given)
        assert transcript.text == expected.text
        assert [(word.start_frame, word.end_frame) for word in transcript.words] == [
            (word.start_frame, word.end_frame) for word in expected.words
        ]
        for one in (transcript, *decoder.decode_batch([given])):
            spelled = "".join(names.get(labels[token], labels[token]) for token in one.hypotheses[0].tokens)
            assert " ".join(spelled.split()) == expected.text


def test_a_text_has_the_probability_of_all_labellings_without_what_is_never_said(rng):
    labels = ["<s>", "A", "[PAD]", "|", "<unk>"]
    emission = np.log(rng.dirichlet(np.ones(5), size=5))
    expected: dict[str, float] = {}
    for tokens, probability in labelling_probabilities(emission.tolist(), blank=2).items():
        text = "".join(labels[token] for token in tokens if token not in (0, 4)).replace("|", " ")
        expected[text] = expected.get(text, 0.0) + probability
    for logits in (False, True):
        decoder = build_decoder(labels, blank="[PAD]", logits=logits, beam_width=500, num_best=500)
        search = decoder.decoder._search
        found = {
            decoder.decoder.alphabet.decode(hypothesis.tokens): math.exp(hypothesis.score)
            for hypothesis in search.decode(decoder._arranged(emission + 5.0 * logits), num_best=500)
        }
        assert found == pytest.approx(expected)


def test_an_unknown_character_leaves_a_gap_and_no_letter():
    labels = ["<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A"]
    probabilities = np.full((3, 8), 0.01)
    probabilities[[0, 1, 2], [6, 3, 7]] = 0.93
    probabilities[1, [3, 5]] = 0.80, 0.14  # E is what is left where the unknown is
    assert build_decoder(labels).decode(np.log(probabilities)).text == "TA"
    probabilities[2] = probabilities[0]
    assert build_decoder(labels).decode(np.log(probabilities)).text == "TT"


@pytest.mark.parametrize(
    ("labels", "blank"),
    [
        (["<s>", "<pad>", "</s>", "<unk>", "|", "A", "B", "C"], "<s>"),  # fairseq
        (["<s>", "<pad>", "</s>", "<unk>", "|", "A", "B", "C"], 0),
        (["-", "|", "A", "B", "C"], "-"),  # torchaudio
        (["<pad>", "|", "A", "B", "C", "_"], "<pad>"),
        ({"C": 3, "<pad>": 0, "|": 4, "A": 1, "B": 2}, None),  # a tokenizer's vocabulary
        ({"|": 0, "A": 1, "B": 2, "C": 3, "Φ": 4}, "Φ"),
    ],
)
def test_the_blank_is_named_where_labels_leave_it_open(emission, labels, blank):
    emission = emission - np.logaddexp.reduce(emission, axis=1, keepdims=True)
    names = sorted(labels, key=labels.get) if isinstance(labels, dict) else labels
    column = {name: names.index(name) for name in ("|", "A", "B", "C")}
    column[""] = blank if isinstance(blank, int) else names.index(blank or "<pad>")
    moved = np.full((len(emission), len(names)), -np.inf)
    moved[:, [column[name] for name in ("", "|", "A", "B", "C")]] = emission
    expected = asr.decode(emission, Alphabet(CHARACTERS), asr.DecodingOptions.of(beam_width=16))
    assert build_decoder(labels, blank=blank).decode(moved).text == expected.text


def test_characters_that_nfc_takes_apart_come_and_go_as_they_are(tmp_path):
    characters = "\u09df\u095c\u0a33\ufb2a\u212b"  # Bengali, Hindi, Gurmukhi, Hebrew; one that NFC spells otherwise
    labels = ["", " ", *characters, "A"]
    text = "".join(characters)
    emission = np.full((2 * len(text), len(labels)), np.log(0.001))
    for i, character in enumerate(text):
        emission[2 * i, labels.index(character)] = emission[2 * i + 1, 0] = np.log(0.99)
    assert build_decoder(labels, logits=True).decode(emission).text == text
    spelled = unicodedata.normalize("NFC", text)
    assert spelled != text
    model = tmp_path / "words.arpa"
    model.write_text(f"\\data\\\nngram 1=2\n\\1-grams:\n-1\t</s>\n-1\t{spelled}\n\\end\\\n", encoding="utf-8")
    decoder = build_decoder(labels, model, logits=True, hotwords={spelled: 2.0}, only_lexicon=True)
    (hypothesis,) = decoder.decode(emission).hypotheses
    assert (hypothesis.text, hypothesis.hotword_score) == (text, 2.0)
    assert hypothesis.lm == pytest.approx(-2 * math.log(10))


def test_a_frames_best_label_is_kept_whatever_the_threshold():
    labels = ["", *map(chr, range(0x4E00, 0x4E00 + 4000))]
    flat = np.full((2, 4001), -math.log(4001))
    assert (
        build_decoder(labels, token_threshold=-5.0, logits=True).decode(flat).text == labels[1]
    )  # of three paths, "" has one
    flat[:, 17] += 0.5  # still far below the threshold
    assert build_decoder(labels, token_threshold=-5.0, logits=True).decode(flat).text == labels[17]


def test_a_language_model_of_another_script_is_refused(tmp_path):
    labels = ["", " ", "A", "B", "C"]

    def model(*words: str) -> Path:
        path = tmp_path / f"{words[0]}-{len(words)}.arpa"
        grams = "\n".join(f"-1\t{word}" for word in ("<s>", "</s>", *words))
        path.write_text(f"\\data\\\nngram 1={len(words) + 2}\n\\1-grams:\n{grams}\n\\end\\\n", encoding="utf-8")
        return path

    with pytest.raises(
        InputError, match="words of the language model must be spelled in the model's alphabet; none of the 2 is"
    ):
        build_decoder(labels, model("привет", "мир"))
    with pytest.raises(
        InputError, match="characters of the alphabet must be known to the language model; none of the 3 is"
    ):
        build_decoder(labels, model("п", "м", "<space>"))
    (tmp_path / "words.txt").write_text("CAB\n")
    with pytest.raises(
        InputError, match="words of the lexicon must be known to the language model; none of the 1 is, 'CAB'"
    ):
        build_decoder(labels, model("привет", "мир"), lexicon=str(tmp_path / "words.txt"))
    message = "only 1 of the 3 words of the language model are spelled in the model's alphabet, not 'да' for example"
    with pytest.warns(AsrWarning, match=message):
        build_decoder(labels, model("да", "нет", "cab"))
    encoded = [chr(100 + token) for token in range(128)]
    with pytest.raises(
        InputError, match=r"d-128\.arpa is one of the encoded pieces of NeMo: give a model of plain words"
    ):
        build_decoder([*labels, *"defghij"], model(*encoded))
    message = "none of the 2 is, 'BA好' for example; give a language model in the script"
    with pytest.raises(InputError, match="in the model's alphabet, each Chinese character as a word; " + message):
        build_decoder([*labels, "好"], model("BA好", "好好"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", AsrWarning)
        build_decoder(labels, model("да", "нет", "cab", "ab\u00a0c", "ba", "ca"))  # a no-break space is no space


def test_options_are_those_of_decoding(emission):
    decoder = build_decoder(["", *CHARACTERS], logits=True, beam_width=4, hotwords={"ABBA": 90.0})
    assert "ABBA" in decoder.decode(emission).text.split()
    assert decoder.decoder.options.search.beam_width == 4
    width, bonus = np.int64(4), np.float32(0.5)
    search = build_decoder(["", *CHARACTERS], beam_width=width, word_bonus=bonus).decoder.options.search
    assert (search.beam_width, search.word_bonus) == (4, 0.5)
    for lexicon in (["AB", " A "], np.array(["AB", "A"]), iter(("AB", "A"))):
        found = build_decoder(["", *CHARACTERS], lexicon=lexicon, only_lexicon=True, logits=True).decode(emission)
        assert {*found.text.split()} <= {"AB", "A"}
    with pytest.raises(ConfigError, match="unknown option 'alphas'"):
        build_decoder(["", *CHARACTERS], alphas=0.5)
    with pytest.raises(ConfigError, match=r"^alpha of pyctcdecode is lm_weight here; docs/pyctcdecode\.md converts"):
        build_decoder(["", *CHARACTERS], alpha=0.5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("_ABC", "labels must be a list of strings, one for each column; got '_ABC'"),
        (None, "labels must be a list of strings, one for each column; got None"),
        ([1, 2], r"labels must be a list of strings, one for each column; got \[1, 2\]"),
        ({"", "A"}, "labels must be in the order of the columns, but a set has no order; give a list"),
        ({"": 0, "A": 2}, r"labels by name must have the columns 0 \.\. 1, each once; got 0, 2"),
        ({"": 0, "A": "1"}, r"labels by name must have the columns 0 \.\. 1, each once; got 0, 1"),
        (
            ["A", "B"],
            "labels must have one blank, one of '', '<pad>', .*; got none; give .* put '' where its column is",
        ),
        ([], "labels must have one blank, .*; got none"),
        (["", "<PAD>", "A"], "got '' in column 0, '<PAD>' in column 1; name the right one, blank='' for example"),
        (
            ["<pad>", "A", "_"],
            "got '<pad>' in column 0, '_' in column 2; name the right one, blank='<pad>' for example",
        ),
        (["-", "|", "A"], "got none; give blank='-' if these are the labels of a torchaudio bundle"),
        (["<s>", "<pad>", "</s>", "A"], "got '<pad>' in column 1; give blank='<s>' if this is a dictionary of fairseq"),
        (["<s>", "A"], "got none; give blank='<s>' if this is a dictionary of fairseq"),
        (["", "A", "A"], "labels must differ; repeated: 'A'"),
        ({0: "", 1: "A"}, r"must be \{label: column\}; this is \{column: label\}: swap keys and values"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        build_decoder(labels)


@pytest.mark.parametrize(
    ("blank", "message"),
    [
        ("<s>", "blank must be one of the labels; 0 of them are '<s>'"),
        ("A", "blank must be one of the labels; 2 of them are 'A'"),
        (3, r"blank must be a label or a column, 0 \.\. 2; got 3"),
        (-1, r"blank must be a label or a column, 0 \.\. 2; got -1"),
        (1.0, r"blank must be a label or a column, 0 \.\. 2; got 1\.0"),
    ],
)
def test_a_blank_that_is_no_label_is_refused(blank, message):
    with pytest.raises(InputError, match=message):
        build_decoder(["", "A", "A"], blank=blank)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.0, np.nan, 0.0, 0.0], "logits must be finite or -inf; the first NaN is in row 1"),
        ([0.0, np.inf, 0.0, 0.0], "logits must be finite or -inf; the first +inf is in row 1"),
        ([-np.inf] * 4, "each row of logits must have a value above -inf; row 1 has none"),
    ],
)
def test_logits_without_a_probability_are_called_what_they_are(row, message):
    logits = np.array([[0.0, -np.inf, 3.0, 1.0], row])
    decoder = build_decoder(["", "A", "B", "C"], logits=True)
    assert decoder.decode(logits[:1]).text == "B"
    with pytest.raises(InputError, match=re.escape(message)):
        decoder.decode(logits)
    with pytest.raises(InputError) as error:
        build_decoder(["", "A", "B", "C"]).decode(logits[1:])
    assert ("NaN" in str(error.value)) == bool(np.isnan(row).any())


def test_other_emissions_are_refused(emission):
    for shape, remedy in (
        ((30, 5), "; if its last column is the blank, which the labels leave out, give blank='append'"),
        ((4, 30), "; transpose it"),
        ((30, 3), ""),
    ):
        message = f"an emission must be (T, 4), a column for each label; got shape {shape}{remedy}"
        for logits in (False, True):
            with pytest.raises(InputError, match=f"{re.escape(message)}$"):
                build_decoder(["", "A", "B", "C"], logits=logits).decode(np.full(shape, -1.0))
    with pytest.raises(InputError, match="log_probs must hold natural log-probabilities"):  # also where <s> goes
        build_decoder(["", "A", "B", "<s>", "C"]).decode(emission + 1)
    with pytest.raises(InputError, match="log_probs must hold natural log-probabilities"):
        build_decoder(["", *CHARACTERS]).decode(emission + 1)
