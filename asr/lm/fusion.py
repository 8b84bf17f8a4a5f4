"""A recurrent language model of characters in the beam search: it scores the next label of prefixes.

Rescoring scores whole texts after the search. Fusion scores each prefix that may be extended, so that the search does
not prune a text that the language model prefers. It takes a step of the model for each such prefix; the prefixes of a
frame, and of all emissions that are decoded together, form one batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from asr.errors import InputError
from asr.lm.rnn import LanguageModel
from asr.lm.vocabulary import EOS


class CharacterFusion:
    """A recurrent model of characters for the beam search: an `asr.ctc.beam.LabelModel`.

    The score of a text is the one of `LanguageModel.token_scores`, with the spaces of the search.

    Args:
        model: over characters; it is put in evaluation mode.
        characters: of the labels, in their order, without the blank.
        blank: index of the blank label, 0 <= blank <= len(characters).
    Raises:
        InputError: it is a model of words, or it lacks a character in upper and lower case: its probability would be
            zero, so the search could never write it.
    """

    def __init__(self, model: LanguageModel, *, characters: Sequence[str], blank: int):
        if model.config.unit != "character":
            raise InputError(
                "fusion needs a recurrent language model of characters; got one of words; rescore with it instead"
            )
        if missing := [character for character in characters if self._token(model, character) == EOS]:
            raise InputError(
                "a language model for fusion must have every character of the alphabet; it lacks "
                f"{', '.join(map(repr, missing))}; train it on text that has them, or rescore with it instead"
            )
        self.model = model.eval()
        tokens = [self._token(model, character) for character in characters]
        tokens.insert(blank, EOS)  # Φ is never the next label: its column holds the probability of the end
        self._tokens = torch.tensor(tokens, device=next(model.parameters()).device)

    @staticmethod
    def _token(model: LanguageModel, character: str) -> int:
        """The token of a character, in either case; EOS if there is none."""
        forms = (character, character.upper(), character.lower())
        return next((model.vocabulary.encode(form)[0] for form in forms if form in model.vocabulary), EOS)

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """The row (V,) and the state of the empty prefix, after the <eos> at the start of a sentence."""
        rows, states = self._step(self.model.start_state(1), torch.full((1,), EOS, device=self._tokens.device))
        return rows[0], states[0]

    def step(self, states: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, V) and states of prefixes, from their states without the last label, and that label (n,)."""
        device = self._tokens.device
        return self._step(torch.from_numpy(states).to(device), self._tokens[torch.from_numpy(labels).to(device)])

    def _step(self, states: torch.Tensor, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        log_probs, states = self.model.step(states, tokens)
        return log_probs[:, self._tokens].cpu().numpy(), states.cpu().numpy()
