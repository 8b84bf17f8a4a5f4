"""Utterances in chunks: what a model sees of them in a stream, as rows of one batch.

    utterance   0 ─────────────────────────────────────────────────▶ T frames of log_probs
    row 0       [ chunk   | look-ahead ]
    row 1       [ left    | chunk   | look-ahead ]
    row 2           [ left context  | chunk   | look-ahead ]
    row 3                     [ left context  | chunk   ]      the end of the utterance ends the row

Each row is computed alone, frontend and encoder, so it sees nothing else. Of its output only the frames of the chunk
are kept, and joined they are again as long as the utterance. Windows of `asr.recognition.streaming` are such rows.

Source: Zhang et al. 2016, "Highway long short-term memory RNNs for distant speech recognition" (latency-controlled
BLSTMs are trained on such chunks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# Seconds, lowest and highest. With them, frames have 0.1 s of sound after them, or more, as in a stream.
CHUNK, LEFT_CONTEXT, LOOK_AHEAD = (0.5, 4.0), (1.0, 4.0), (0.1, 2.0)


@dataclass(frozen=True, kw_only=True)
class ChunkSizes:
    """How utterances are divided: seconds in a chunk, before it and after it."""

    chunk: float
    left_context: float
    look_ahead: float


COSTLIEST = ChunkSizes(chunk=CHUNK[0], left_context=LEFT_CONTEXT[1], look_ahead=LOOK_AHEAD[1])


def draw_sizes(share: float, *, seed: int) -> ChunkSizes | None:
    """The sizes for one batch, or None for whole utterances.

    Chunk and look-ahead are drawn evenly on a scale of logarithms, because short ones are hard; the left context is
    drawn evenly.

    Args:
        share: probability of chunks, from 0 to 1.
        seed: equal seeds give equal sizes.
    """
    rng = np.random.default_rng(seed)
    if rng.random() >= share:
        return None
    chunk, look_ahead = (math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in (CHUNK, LOOK_AHEAD))
    return ChunkSizes(chunk=chunk, left_context=rng.uniform(*LEFT_CONTEXT), look_ahead=look_ahead)


class Chunks:
    """The division of a batch's utterances; `cut` makes its rows, and `join` joins what was computed of them.

    Args:
        num_frames: (B,) int64, frames of log_probs of each whole utterance, 0 or more.
        chunk: frames of log_probs in a chunk, 1 or more.
        left_context, look_ahead: frames before and after it, 0 or more.
    """

    def __init__(self, num_frames: Tensor, *, chunk: int, left_context: int, look_ahead: int):
        self.chunk = chunk
        self.counts = ((num_frames + chunk - 1) // chunk).clamp(min=1)  # (B,) rows of each utterance
        self.first_rows = self.counts.cumsum(dim=0) - self.counts
        self.utterances = torch.arange(len(num_frames)).repeat_interleave(self.counts)  # (R,) of each row
        number = torch.arange(len(self.utterances)) - self.first_rows[self.utterances]
        self.starts = (number * chunk - left_context).clamp(min=0)  # (R,) frames
        self.ends = (number + 1) * chunk + look_ahead
        self.reach_end = self.ends >= num_frames[self.utterances]

    def cut(self, inputs: Tensor, lengths: Tensor, *, per_frame: int) -> tuple[Tensor, Tensor]:
        """The rows (R, N', ...), padded with zeros, and their lengths (R,) int64.

        Args:
            inputs: (B, N, ...) what the utterances are computed from: samples, states or frames of features.
            lengths: (B,) int64 of them in each utterance.
            per_frame: of them in a frame of log_probs.
        """
        starts = self.starts * per_frame
        ends = torch.where(self.reach_end, lengths[self.utterances], self.ends * per_frame)
        places = zip(self.utterances.tolist(), starts.tolist(), ends.tolist(), strict=True)
        rows = [inputs[utterance, start:end] for utterance, start, end in places]
        return pad_sequence(rows, batch_first=True), ends - starts

    def join(self, hidden: Tensor, lengths: Tensor, *, per_frame: int) -> tuple[Tensor, Tensor]:
        """The frames of all chunks, in the utterances' order (B, T, D), and the utterances' lengths (B,) int64.

        Args:
            hidden: (R, T', D) of the rows: log_probs, or the output of a layer; the chunk of each row is in it.
            lengths: (R,) int64 frames of each row, on the device of `hidden`.
            per_frame: frames of `hidden` in a frame of log_probs.
        Returns:
            Frames past an utterance's length are undefined.
        """
        counts, first_rows, starts = (
            values.to(hidden.device) for values in (self.counts, self.first_rows, self.starts * per_frame)
        )
        last = first_rows + counts - 1
        joined_lengths = starts[last] + lengths[last]
        frames = torch.arange(int(joined_lengths.max()), device=hidden.device).expand(len(counts), -1)  # (B, T)
        rows = first_rows[:, None] + torch.minimum(frames // (self.chunk * per_frame), counts[:, None] - 1)
        places = rows * hidden.shape[1] + frames - starts[rows]
        places = places.masked_fill(frames >= joined_lengths[:, None], 0)
        joined = hidden.flatten(0, 1).index_select(0, places.flatten())
        return joined.view(*frames.shape, hidden.shape[2]), joined_lengths
