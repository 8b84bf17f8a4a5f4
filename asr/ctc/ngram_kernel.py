"""Queries of an n-gram model in compiled code; `asr/compute/machine_code.py` loads it."""

from __future__ import annotations

import numpy as np

from asr.compute.addresses import array_at, array_from, compiled
from asr.ctc import ngram_tables
from asr.ctc.ngram_tables import NgramTables

query = compiled(ngram_tables.query)


@compiled
def tables_at(fields_at):
    """The `NgramTables` whose `field_values` are at an address."""
    fields = array_from(fields_at, np.int64)
    return NgramTables(
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


@compiled
def score_words(fields_at, state, words_at, num_words, log_probs_at):
    """Write (n,) float64, log p of each word given those before it, for words (n,) int32 that follow `state`; -> 0."""
    tables = tables_at(fields_at)
    words, log_probs = array_at(words_at, np.int32, (num_words,)), array_at(log_probs_at, np.float64, (num_words,))
    for i in range(num_words):
        log_probs[i], state = query(tables, state, words[i])
    return 0


KERNELS = [score_words]
