"""Scores of a sequence of words in compiled code; `asr/compute/machine_code.py` says how it runs."""

from __future__ import annotations

import numpy as np

from asr.compute.addresses import array_at, array_from, compiled
from asr.ctc.ngram_arrays import NgramTables, query

_query = compiled(query)


@compiled
def score_words(tables_at, state, words_at, num_words, log_probs_at):
    """Write log p of each word after those before it, (n,) float64, for words (n,) int32 that follow `state`; -> 0.

    `tables_at` is where the fields of an `NgramTables` stand, int64 each: addresses of its arrays, and its numbers.
    """
    fields = array_at(tables_at, np.int64, (10,))
    tables = NgramTables(
        array_from(fields[0], np.int32),
        array_from(fields[1], np.float32),
        array_from(fields[2], np.int32),
        array_from(fields[3], np.float32),
        array_from(fields[4], np.int32),
        array_from(fields[5], np.int32),
        fields[6],
        fields[7],
        fields[8],
        fields[9],
    )
    words, log_probs = array_at(words_at, np.int32, (num_words,)), array_at(log_probs_at, np.float64, (num_words,))
    for i in range(num_words):
        log_probs[i], state = _query(tables, state, words[i])
    return 0


KERNELS = [score_words]
