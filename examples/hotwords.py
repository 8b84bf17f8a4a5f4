"""Decode the log-probabilities of any CTC model with hotwords; print the three best hypotheses and their scores.

    python examples/hotwords.py log_probs.npy labels.txt OCTOBER "NEW YORK"

log_probs.npy holds natural logarithms, (T, V). labels.txt has one label a line, in the order of the columns: <pad> is
the blank, | the space.
"""

import sys
from pathlib import Path

import numpy as np

import asr

log_probs = np.load(sys.argv[1])
labels = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
decoder = asr.build_decoder(labels, beam_width=100, hotwords=sys.argv[3:], num_best=3)
for hypothesis in decoder.decode(log_probs).hypotheses:
    print(f"{hypothesis.score:8.2f}  {hypothesis.text}")
