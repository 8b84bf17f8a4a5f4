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
import torch

from asr.ctc.trie import Trie
from asr.lm.rnn import CELLS, LanguageModel
from asr.lm.vocabulary import EOS
from asr.text.normalization import normalize


def score_together(model: LanguageModel, sentences: Sequence[str]) -> np.ndarray:
    """Natural logarithm of the probability of each sentence, (n,) float64: the same as `LanguageModel.token_scores`.

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


@torch.inference_mode()
def _score_tree(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-probabilities of different sequences of tokens, each ended by <eos>, (n,) float64."""
    was_training = model.training
    model.eval()
    tree = Trie(sequences, name="sequences")
    device = next(model.parameters()).device
    labels, parents = torch.from_numpy(tree.labels).to(device), torch.from_numpy(tree.parents).to(device)
    log_probs = torch.zeros(len(labels), dtype=torch.float64, device=device)
    rows = max(1, CELLS // max(model.softmax.num_logits, 4 * model.config.network.hidden_size))
    hidden, state = model(torch.full((1, 1), EOS, device=device), model.start_state(1))
    hidden = hidden[:, 0]
    begin, inner = 1, np.zeros(1, dtype=np.int64)  # nodes with children, whose hidden and state are known
    while len(inner):
        # The children of a level are consecutive; every node except the ends of sentences has some.
        end = begin + int(np.searchsorted(tree.parents[begin:], inner[-1], side="right"))
        above = torch.from_numpy(np.searchsorted(inner, tree.parents[begin:end])).to(device)
        for start in range(begin, end, rows):
            part = slice(start, min(start + rows, end))
            own = model.target_log_probs(hidden[above[part.start - begin : part.stop - begin]], labels[part])
            log_probs[part] = log_probs[parents[part]] + own.double()
        inner = begin + np.flatnonzero(tree.labels[begin:end] != EOS)
        if len(inner):
            nodes = torch.from_numpy(inner).to(device)
            before = state[above[nodes - begin]]
            steps = [
                model(labels[nodes[start : start + rows], None], before[start : start + rows])
                for start in range(0, len(inner), rows)
            ]
            hidden, state = steps[0] if len(steps) == 1 else map(torch.cat, zip(*steps, strict=True))  # large: no copy
            hidden = hidden[:, 0]
        begin = end
    model.train(was_training)
    return log_probs.cpu().numpy()[tree.ends]
