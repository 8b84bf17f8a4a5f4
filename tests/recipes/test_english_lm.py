"""The mixture of two language models, as the recipe measures it."""

from __future__ import annotations

import numpy as np
import pytest

from asr.errors import InputError
from asr.lm.perplexity import SentenceScore
from recipes.english_lm.run import interpolate


def score(tokens: str, *probabilities: float) -> SentenceScore:
    log_probs = np.log(probabilities)
    return SentenceScore(text=tokens, tokens=tuple(tokens.split()), log_probs=log_probs, known=np.isfinite(log_probs))


def test_a_mixture_is_the_weighted_mean_of_probabilities() -> None:
    one, other = score("the quince", 0.5, 0.1), score("the quince", 0.25, 0.4)
    np.testing.assert_allclose(np.exp(interpolate(one, other, weight=0.3).log_probs), [0.425, 0.19])
    assert interpolate(one, other, weight=0.0).log_prob == one.log_prob
    with pytest.raises(InputError, match=r"the weight of a model in a mixture must be in 0 .. 1, not 1.5"):
        interpolate(one, other, weight=1.5)
    with pytest.raises(InputError, match="two models must have the same tokens to be mixed"):
        interpolate(one, score("the", 0.5), weight=0.5)
