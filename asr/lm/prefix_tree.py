"""Many sentences scored together by a recurrent language model, each common prefix only once.

The hypotheses of an n-best list differ in a word or two. All sentences form one tree of tokens, and the model goes
through it level by level, with each node one row of a batch: a common prefix is computed once, no row is padding, and
a sentence costs a step for each token that it does not share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from asr.ctc.trie import Trie
from asr.lm.recurrent import CELLS, TokenScores
from asr.lm.vocabulary import EOS
from asr.text.normalization import normalize


def score_together(model: TokenScores, sentences: Sequence[str]) -> np.ndarray:
    """Natural logarithm of the probability of each sentence, (n,) float64: the same as `TokenScores.token_scores`.

    Args:
        model: over words or characters.
        sentences: not normalised; some may be empty, or equal.
    """
    if not sentences:
        return np.zeros(0)
    texts = [normalize(sentence, model.config.text) for sentence in sentences]
    sequences = [(*model.vocabulary.encode(text, dropped=Counter()), EOS) for text in texts]
    different = list(dict.fromkeys(sequences))
    log_probs = dict(zip(different, _score_tree(model, different).tolist(), strict=True))
    whole = [model.config.unit == "word" or len(row) > len(text) for text, row in zip(texts, sequences, strict=True)]
    return np.array([log_probs[row] if spelled else -math.inf for row, spelled in zip(sequences, whole, strict=True)])


def _score_tree(model: TokenScores, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-probabilities of different sequences of tokens, each ended by <eos>, (n,) float64."""
    tree = Trie(sequences, name="sequences")
    labels = tree.labels.astype(np.int64)
    log_probs = np.zeros(len(labels))
    rows = max(1, CELLS // model.widest)
    hidden, state = model.advance(np.full((1, 1), EOS), model.start_state(1))
    hidden = hidden[:, 0]
    begin, inner = 1, np.zeros(1, dtype=np.int64)  # nodes with children, whose hidden and state are known
    while len(inner):
        # The children of a level are consecutive; every node except the ends of sentences has some.
        end = begin + int(np.searchsorted(tree.parents[begin:], inner[-1], side="right"))
        above = np.searchsorted(inner, tree.parents[begin:end])
        for start in range(begin, end, rows):
            part = slice(start, min(start + rows, end))
            own = model.target_scores(hidden[above[part.start - begin : part.stop - begin]], labels[part])
            log_probs[part] = log_probs[tree.parents[part]] + own
        inner = begin + np.flatnonzero(labels[begin:end] != EOS)
        if len(inner):
            before = state[above[inner - begin]]
            steps = [
                model.advance(labels[inner[start : start + rows], None], before[start : start + rows])
                for start in range(0, len(inner), rows)
            ]
            hidden, state = steps[0] if len(steps) == 1 else map(model.join, zip(*steps, strict=True))  # large: no copy
            hidden = hidden[:, 0]
        begin = end
    return log_probs[tree.ends]
