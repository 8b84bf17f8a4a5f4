"""Numbers that other projects publish in their tests: losses, gradients, decoded texts, scores and alignments.

Only numbers come from there, no code. Each case names the project, the file, the commit at which it was read, and the
licence of the project.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.ctc.alignment import align
from asr.ctc.beam import BeamHypothesis, BeamOptions, BeamSearch
from asr.ctc.greedy import best_path
from asr.ctc.hotwords import Hotwords
from asr.ctc.loss import ctc_loss
from asr.ctc.trie import WordTrie
from asr.errors import InputError
from asr.lm.arpa import read_arpa
from asr.lm.ngram import NgramModel
from tests.ctc.enumeration import labelling_probabilities


def logarithm(probabilities: list[list[float]]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities))


def moved_blank(emission: np.ndarray, *, blank: int) -> np.ndarray:
    """The same emission with its last column, the blank's, at `blank`."""
    return np.insert(emission[:, :-1], blank, emission[:, -1], axis=1)


# Outputs of Alex Graves' own program, Φ = 5, for the labels 0 1 2 1 0 and 0 1 1 0. TensorFlow took them over
# (tensorflow/tensorflow 08b198b, tensorflow/python/kernel_tests/nn_ops/ctc_loss_op_test.py, Apache-2.0), and so did
# warp-ctc (baidu-research/warp-ctc 94b2fa1, tests/test_cpu.cpp, options_test, Apache-2.0) and torchaudio.
GRAVES = [
    [
        [0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553],
        [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
        [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688],
        [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
        [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107],
    ],
    [
        [0.30176, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508],
        [0.24082, 0.397533, 0.0557226, 0.0546814, 0.0557528, 0.19549],
        [0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, 0.202456],
        [0.280884, 0.429522, 0.0326593, 0.0339046, 0.0326856, 0.190345],
        [0.423286, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046],
    ],
]
GRAVES_LABELS = [[0, 1, 2, 1, 0], [0, 1, 1, 0]]
GRAVES_LOSSES = [3.34211, 5.42262]
# Of the gradient by the logits they list every number; but for these, each is the probability above.
GRAVES_DERIVATIVES = [
    {(0, 0): -0.366234, (1, 1): -0.411608, (2, 2): -0.678582, (3, 1): -0.356151, (4, 0): -0.541765},
    {(0, 0): -0.69824, (1, 1): -0.602467, (2, 5): -0.797544, (3, 1): -0.570478, (4, 0): -0.576714},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_and_gradients_of_graves_own_program(dtype):
    padding = [[[math.nan] * 6] * 2] * 2  # as TensorFlow has it: two frames more, that are not to be read
    probabilities = torch.cat([torch.tensor(GRAVES, dtype=dtype), torch.tensor(padding, dtype=dtype)], dim=1)
    logits = probabilities.log().requires_grad_()
    targets = torch.tensor([GRAVES_LABELS[0], [*GRAVES_LABELS[1], 99]])
    losses = ctc_loss(logits.log_softmax(-1), targets, torch.tensor([5, 5]), torch.tensor([5, 4]), blank=5)
    assert losses.tolist() == pytest.approx(GRAVES_LOSSES, abs=1e-5)

    losses.sum().backward()
    expected = torch.tensor(GRAVES, dtype=dtype)
    for utterance, derivatives in enumerate(GRAVES_DERIVATIVES):
        for (frame, label), derivative in derivatives.items():
            expected[utterance, frame, label] = derivative
    torch.testing.assert_close(logits.grad[:, :5], expected, rtol=0, atol=2e-6)
    assert (logits.grad[:, 5:].nan_to_num(0) == 0).all()


def test_losses_of_warp_ctcs_tutorial():
    # baidu-research/warp-ctc 94b2fa1, torch_binding/TUTORIAL.md, Apache-2.0; in one batch, the shortest padded, as
    # k2-fsa/k2 a741ae8 has them in k2/python/tests/ctc_loss_test.py, Apache-2.0. Labels a b c d are 1 2 3 4.
    flat = torch.zeros(3, 5)
    rising = torch.arange(1.0, 16.0).reshape(3, 5)
    falling = torch.tensor([[-5.0], [-10.0], [-15.0]]) + torch.arange(5.0)
    log_probs = torch.stack([flat, rising, falling]).log_softmax(-1)
    losses = ctc_loss(
        log_probs, torch.tensor([1, 3, 3, 2, 3]), torch.tensor([1, 3, 3]), torch.tensor([1, 2, 2]), blank=0
    )
    assert losses.tolist() == pytest.approx([1.6094379425049, 7.355742931366, 4.938850402832], rel=1e-6)


@pytest.mark.parametrize("blank", [3, 2])
@pytest.mark.parametrize(
    ("probabilities", "tokens", "likelihood"),
    [
        (
            [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.4, 0.6], [0.0, 0.0, 0.4, 0.6], [0.0, 0.9, 0.1, 0.0]],
            [0, 1],
            1.0 * 0.6 * 0.6 * 0.9,
        ),
        (
            [
                [0.1, 0.9, 0.0, 0.0],
                [0.0, 0.9, 0.1, 0.0],
                [0.0, 0.0, 0.1, 0.9],
                [0.0, 0.9, 0.1, 0.1],
                [0.9, 0.1, 0.0, 0.0],
            ],
            [1, 1, 0],
            0.9**5,
        ),
    ],
)
def test_best_paths_of_tensorflow(blank, probabilities, tokens, likelihood):
    # tensorflow/tensorflow 16e3ced, tensorflow/python/kernel_tests/nn_ops/ctc_decoder_ops_test.py, Apache-2.0, also
    # with the blank moved, which leaves the labels below it as they are.
    best = best_path(moved_blank(logarithm(probabilities), blank=blank), blank=blank)
    assert best.tokens.tolist() == tokens
    assert best.score == pytest.approx(math.log(likelihood))


def test_a_beam_of_two_of_tensorflow():
    # The same file, testCTCDecoderBeamSearch: what stands here is taken for logits, Φ = 5. A beam of two prunes, and
    # what it loses is part of the published scores.
    logits = [
        [0.30999, 0.309938, 0.0679938, 0.0673362, 0.0708352, 0.173908],
        [0.215136, 0.439699, 0.0370931, 0.0393967, 0.0381581, 0.230517],
        [0.199959, 0.489485, 0.0233221, 0.0251417, 0.0233289, 0.238763],
        [0.279611, 0.452966, 0.0204795, 0.0209126, 0.0194803, 0.20655],
        [0.51286, 0.288951, 0.0243026, 0.0220788, 0.0219297, 0.129878],
    ]
    emission = torch.tensor(logits, dtype=torch.float64).add(2.0).log_softmax(-1).numpy()
    best = BeamSearch(num_labels=6, blank=5, options=BeamOptions(beam_width=2)).decode(emission, num_best=3)
    assert [h.tokens.tolist() for h in best] == [[1, 0], [1]]  # no third: the beam holds two
    assert [h.score for h in best] == pytest.approx([-5.811451, -6.63339], abs=1e-6)


def test_three_best_of_tensorflow():
    # tensorflow/tensorflow 074d88f, tensorflow/core/util/ctc/ctc_beam_search_test.cc, Apache-2.0: labels 1 and 3 alone
    # can be, a beam of 30 loses nothing.
    emission = np.full((5, 6), -np.inf)
    emission[:, [1, 3]] = logarithm([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]])
    best = BeamSearch(num_labels=6, blank=5, options=BeamOptions(beam_width=30)).decode(emission, num_best=3)
    assert [h.tokens.tolist() for h in best] == [[1, 3], [1, 3, 1], [3, 1, 3]]


# Baidu's decoder: PaddlePaddle/DeepSpeech, decoders/tests/test_decoders.py, Apache-2.0; and parlance/ctcdecode c90ad94,
# tests/test_decode.py, MIT, which was made from it. Φ is the last label, and stands here as "_".
BAIDU_LABELS = "' abcd_"
BAIDU = [
    [
        [0.06390443, 0.21124858, 0.27323887, 0.06870235, 0.0361254, 0.18184413, 0.16493624],
        [0.03309247, 0.22866108, 0.24390638, 0.09699597, 0.31895462, 0.0094893, 0.06890021],
        [0.218104, 0.19992557, 0.18245131, 0.08503348, 0.14903535, 0.08424043, 0.08120984],
        [0.12094152, 0.19162472, 0.01473646, 0.28045061, 0.24246305, 0.05206269, 0.09772094],
        [0.1333387, 0.00550838, 0.00301669, 0.21745861, 0.20803985, 0.41317442, 0.01946335],
        [0.16468227, 0.1980699, 0.1906545, 0.18963251, 0.19860937, 0.04377724, 0.01457421],
    ],
    [
        [0.08034842, 0.22671944, 0.05799633, 0.36814645, 0.11307441, 0.04468023, 0.10903471],
        [0.09742457, 0.12959763, 0.09435383, 0.21889204, 0.15113123, 0.10219457, 0.20640612],
        [0.45033529, 0.09091417, 0.15333208, 0.07939558, 0.08649316, 0.12298585, 0.01654384],
        [0.02512238, 0.22079203, 0.19664364, 0.11906379, 0.07816055, 0.22538587, 0.13483174],
        [0.17928453, 0.06065261, 0.41153005, 0.1172041, 0.11880313, 0.07113197, 0.04139363],
        [0.15882358, 0.1235788, 0.23376776, 0.20510435, 0.00279306, 0.05294827, 0.22298418],
    ],
]


def spell(tokens: np.ndarray, labels: str = BAIDU_LABELS) -> str:
    return "".join(labels[token] for token in tokens)


@pytest.mark.parametrize(
    ("probabilities", "greedy", "beam_of_20"), [(BAIDU[0], "ac'bdc", "acdc"), (BAIDU[1], "b'da", "b'a")]
)
def test_texts_of_baidus_decoder(probabilities, greedy, beam_of_20):
    emission = logarithm(probabilities)
    assert spell(best_path(emission, blank=6).tokens) == greedy
    search = BeamSearch(num_labels=7, blank=6, options=BeamOptions(beam_width=20))
    assert spell(search.decode(emission)[0].tokens) == beam_of_20


def test_their_first_text_is_what_a_beam_of_20_loses():
    # The most probable text of the first one is another, "acb", and a wide beam finds it.
    emission = logarithm(BAIDU[0])
    table = labelling_probabilities(emission.tolist(), blank=6)
    best = BeamSearch(num_labels=7, blank=6, options=BeamOptions(beam_width=10_000)).decode(emission)[0]
    assert spell(best.tokens) == spell(max(table, key=table.__getitem__)) == "acb"
    assert best.score == pytest.approx(math.log(table[tuple(best.tokens)]))


def test_a_text_of_baidus_decoder_with_a_lexicon_of_one_word():
    # "a a" where a language model of weight 0 gives nothing but its words, of which "a" alone can be spelled. Their
    # dictionary has no space before the first word; here there may be one, and " a" and " a a" are more probable.
    search = BeamSearch(
        num_labels=7,
        blank=6,
        delimiters=[1],
        lexicon=WordTrie([[2]]),
        options=BeamOptions(beam_width=20, only_lexicon=True),
    )
    texts = [spell(hypothesis.tokens) for hypothesis in search.decode(logarithm(BAIDU[1]), num_best=20)]
    assert texts[:2] == [" a", " a a"]
    assert next(text for text in texts if not text.startswith(" ")) == "a a"


# pyctcdecode: kensho-technologies/pyctcdecode afecb67, pyctcdecode/tests/test_decoder.py and
# sample_data/bugs_bunny_kenlm.arpa, Apache-2.0. First "bugs", of 0.49 in each frame, or "bunny", of 0.51; then "bunny".
PYCTCDECODE_LABELS = " bgnsuy_"
PYCTCDECODE_ARPA = """\\data\\
ngram 1=5
ngram 2=5

\\1-grams:
-10\t<unk>\t0
0\t<s>\t0
0\t</s>\t0
0\tbugs\t0
0\tbunny\t0

\\2-grams:
0\tbunny </s>
-10\tbugs </s>
0\t<s> bugs
-10\t<s> bunny
0\tbugs bunny

\\end\\
"""


def bugs_or_bunny_then_bunny() -> np.ndarray:
    frames = np.full((13, 8), 1e-15)
    for path, probability in (("bugs__ bun_ny", 0.49), ("bun_ny bun_ny", 0.51)):
        for frame, label in enumerate(path):
            frames[frame, PYCTCDECODE_LABELS.index(label)] += probability
    return np.log(np.minimum(frames, 1.0))


def search_bugs_bunny(folder: Path, *, num_best: int = 1, hotword: str = "", **options: float) -> list[BeamHypothesis]:
    (folder / "lm.arpa").write_text(PYCTCDECODE_ARPA)
    lm = NgramModel(*read_arpa(folder / "lm.arpa"))
    spellings = [[PYCTCDECODE_LABELS.index(letter) for letter in word] for word in ("bugs", "bunny")]
    hotwords = Hotwords([[PYCTCDECODE_LABELS.index(letter) for letter in hotword]], [10.0]) if hotword else None
    search = BeamSearch(
        num_labels=8,
        blank=7,
        delimiters=[0],
        lexicon=WordTrie(spellings, [lm.words.index(word) for word in ("bugs", "bunny")]),
        lm=lm.tables,
        hotwords=hotwords,
        options=BeamOptions(beam_width=100, **options),
    )
    return search.decode(bugs_or_bunny_then_bunny(), num_best=num_best)


def test_sixteen_texts_of_pyctcdecode(tmp_path):
    hypotheses = search_bugs_bunny(tmp_path, num_best=16, lm_weight=0.0, unknown_word_score=0.0)
    texts = [spell(hypothesis.tokens, PYCTCDECODE_LABELS) for hypothesis in hypotheses]
    assert (len(set(texts)), texts[0], texts[-1]) == (16, "bunny bunny", "bugs bunny")
    assert hypotheses[0].score == pytest.approx(-2.6933782130551505)


def test_a_language_model_of_pyctcdecode_turns_the_first_word(tmp_path):
    best, second = search_bugs_bunny(tmp_path, num_best=2, lm_weight=0.5, word_bonus=1.5, unknown_word_score=-10.0)
    assert spell(best.tokens, PYCTCDECODE_LABELS) == "bugs bunny"
    assert spell(second.tokens, PYCTCDECODE_LABELS) == "bunny bunny"
    assert best.acoustic_score == pytest.approx(-2.853399551509947)
    assert best.score == pytest.approx(0.14660044849005294)


def test_a_hotword_of_pyctcdecode_turns_the_first_word(tmp_path):
    (best,) = search_bugs_bunny(tmp_path, lm_weight=0.0, unknown_word_score=0.0, hotword="bugs")
    assert spell(best.tokens, PYCTCDECODE_LABELS) == "bugs bunny"


@pytest.mark.parametrize(
    ("labels", "path"),
    [
        ([0, 1, 1, 0], [0, 1, 5, 1, 0]),
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        ([3, 3, 3], [3, 5, 3, 5, 3]),
        ([0, 1, 2], [0, 1, 1, 1, 2]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_alignments_of_torchaudio(labels, path, dtype):
    # pytorch/audio, test/torchaudio_unittest/functional/functional_impl.py, test_forced_align, BSD-2-Clause
    emission = logarithm(GRAVES[0]).astype(dtype)
    found = align(emission, labels, blank=5)
    assert found.path.tolist() == path
    assert found.score == pytest.approx(sum(float(emission[frame, label]) for frame, label in enumerate(path)))


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1, 2, 3, 4, 4], "labels need 7 frames"), ([5, 3, 3], "not hold the blank, 5")]
)
def test_what_torchaudio_does_not_align_either(labels, message):
    with pytest.raises(InputError, match=message):
        align(logarithm(GRAVES[0]), labels, blank=5)
