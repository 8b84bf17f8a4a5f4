from __future__ import annotations

import numpy as np
import pytest
import torch

import asr
from asr.errors import ConfigError, InputError
from asr.label_decoder import build_decoder
from asr.text import Alphabet

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
    expected = asr.decode(emission, Alphabet(CHARACTERS), asr.DecodingOptions(beam_width=16))
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


def test_labels_that_are_never_said_are_left_out(emission):
    labels = ["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "C"]
    padded = np.full((len(emission), len(labels)), -3.0)
    padded[:, [0, 4, 5, 6, 7]] = emission
    padded -= np.logaddexp.reduce(padded, axis=1, keepdims=True)
    assert (
        build_decoder(labels).decode(padded).text == build_decoder(["", *CHARACTERS], logits=True).decode(emission).text
    )


def test_options_are_those_of_decoding(emission):
    decoder = build_decoder(["", *CHARACTERS], logits=True, beam_width=4, hotwords={"ABBA": 90.0})
    assert "ABBA" in decoder.decode(emission).text.split()
    assert decoder.decoder.options.beam_width == 4
    with pytest.raises(ConfigError, match="unknown option 'alpha'"):
        build_decoder(["", *CHARACTERS], alpha=0.5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("_ABC", "labels must be a list of strings, one for each column; got '_ABC'"),
        (["A", "B"], "labels must have one blank, one of '', '<pad>', .*; got 0"),
        (["", "<pad>", "A"], "labels must have one blank, .*; got 2"),
        (["", "A", "TH"], r"each label must be one character, but for a blank .*; labels\[2\] is 'TH'"),
        (["", "A", "A"], "the characters of an alphabet must differ; more than once came 'A'"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        build_decoder(labels)


def test_other_emissions_are_refused(emission):
    with pytest.raises(InputError, match="one column for each of the 4 labels, Φ included; got 5"):
        build_decoder(["", "A", "B", "C"]).decode(emission)
    with pytest.raises(InputError, match=r"logits must be \(T, 4\), a column for each label; got shape \(30, 5\)"):
        build_decoder(["", "A", "B", "C"], logits=True).decode(emission)
    with pytest.raises(InputError, match="log_probs must hold natural log-probabilities"):  # also where <s> goes
        build_decoder(["", "A", "B", "<s>", "C"]).decode(emission + 1)
    with pytest.raises(InputError, match="log_probs must hold natural log-probabilities"):
        build_decoder(["", *CHARACTERS]).decode(emission + 1)
