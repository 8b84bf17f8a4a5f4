"""Prefix beam search: the most probable texts of an emission, with an n-gram model, a lexicon and hotwords.

The search holds the `beam_width` best prefixes. Each has the probability of all its alignments to the frames so far, in
two parts: alignments that end with Φ, and alignments that end with the last label, because the same label begins a new
token only after Φ.

    p_blank(y, t)     = p(y, t-1) p_t(Φ)                        p = p_blank + p_nonblank
    p_nonblank(yc, t) = p_nonblank(yc, t-1) p_t(c) + { p_blank(y, t-1) p_t(c)   if y ends with c
                                                     { p(y, t-1) p_t(c)         if not

Everything else that ranks a prefix (the *bonus*: language model, words, hotwords) depends on its labels alone. While a
word is open, a language model of words looks ahead: it adds the unigram score of the likeliest word that begins so. The
score of the complete word replaces this estimate, so the estimate changes which prefixes are pruned, nothing else.

A hotword may never be completed. So a prefix is ranked by the hotwords that are certain, and the `beam_width` best
prefixes are the *members* of the beam, as if no match were open. The beam also has half as many *guests*: prefixes that
score too low for members, but high enough with the potential of their open match. A guest is dropped when its match
fails. When its match is completed it competes with the members, and so does every prefix after it. Apart from these,
members do not count alignments that go through guests: a hotword that occurs in no text changes nothing, to the last
bit. The mass that includes alignments through guests, the *whole* mass, is stored separately.

The prefixes are the nodes of a tree, numbered from 1 (node 0 is a scratch row, and means "none"). A frame takes two
passes. The first gives each prefix of the beam its new probabilities, including the mass that it gets from its parent.
So the second only looks for new prefixes among the pairs of a prefix and a label, and skips all pairs that score below
the worst prefix that would be kept. Nodes are made for prefixes that are kept, and freed when neither they nor their
descendants are in the beam.

Labels may also be pieces of words, each with a spelling in characters. Then a prefix is a text of characters, whatever
its segmentation into labels: `asr/ctc/subword_kernel.py` has the recursion. Words, language model, lexicon and hotwords
are all of characters.

A language model of labels without tables, such as a recurrent one, scores a prefix only when an extension of the prefix
may enter the beam, and it scores all such prefixes in one batch: the compiled search stops in a frame, lists the
prefixes, and repeats the frame when each has its row, the log-probabilities of the next label. Rows, and the states
from which the model continues, belong to nodes and are freed with them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from asr import ctc
from asr.compute.machine_code import Kernels
from asr.ctc import beam_records as records
from asr.ctc.hotwords import DELIMITER, PART, STANDALONE, HotwordMatch, Hotwords
from asr.ctc.ngram_tables import NgramTables, contiguous, field_values
from asr.ctc.spellings import Spellings
from asr.ctc.trie import WordTrie
from asr.errors import InputError
from asr.options import check_options, option

WIDEST_BEAM = 10_000  # 25 MB for each emission
LARGEST_SCORE = 1e6  # nats, of an option: sums of them stay far from the limits of float64
WEIGHT: dict[str, Any] = {"least": 0, "most": LARGEST_SCORE}  # limits of options
BONUS: dict[str, Any] = {"least": -LARGEST_SCORE, "most": LARGEST_SCORE}
MOST_ROW_BYTES = 1 << 30  # of a label model
TOGETHER = 32  # emissions that share the steps of a label model
_LEAST_AHEAD = -1e3  # nats: a word with probability 0 by itself may be possible after another word
_BLOCK_FRAMES = 1024


def _compiled_functions() -> Sequence[Any]:
    from asr.ctc.beam_kernel import KERNELS

    return KERNELS


def _compiled_for_spellings() -> Sequence[Any]:
    from asr.ctc.subword_kernel import KERNELS

    return KERNELS


_kernels = Kernels(_compiled_functions, room=ctc)
_subword_kernels = Kernels(_compiled_for_spellings, room=ctc)


@dataclass(frozen=True, kw_only=True)
class BeamOptions:
    """How a beam search prunes and scores.

    The score of a text y of complete words is

        score(y) = log p_ctc(y) + lm_weight log p_lm(y) + word_bonus |words| + unknown_word_score |unknown words|
                   + unknown_letter_score |their letters| + weights of its hotwords

    With all pruning off and a beam wide enough for every prefix, the n best are exact.
    """

    beam_width: int = option(16, "keep N prefixes; 1: decode greedily", least=1, most=WIDEST_BEAM)
    token_threshold: float | None = option(
        None, "extend prefixes only by the best label and labels above this log-probability; none: by all", most=0
    )
    score_threshold: float | None = option(
        None, "drop prefixes this many nats or more behind the best; none: keep all", above=0
    )
    blank_threshold: float | None = option(
        None, "skip frames whose blank has a higher probability than this; none: skip no frame", above=0, below=1
    )
    open_tokens: int | None = option(
        1000, "drop prefixes that diverged from the best one more than N tokens ago; none: keep all", least=1
    )
    lm_weight: float = option(0.5, "weight of the language model's log-probability in the search", **WEIGHT)
    word_bonus: float = option(0.0, "add this for each word, in nats", **BONUS)
    unknown_word_score: float = option(-5.0, "add this for each word outside the lexicon, in nats", **BONUS)
    unknown_letter_score: float = option(
        0.0, "add this for each letter of a word outside the lexicon, in nats, at most 0", least=-LARGEST_SCORE, most=0
    )
    only_lexicon: bool = option(False, "allow only words of the lexicon")

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class BeamHypothesis:
    """One of the n best texts, with the parts of its score, all in nats.

    Args:
        tokens: (U,) int64 labels, blanks removed; of a search with spellings, characters.
        score: the sum in `BeamOptions`, and of rescoring.
        acoustic_score: log-probability of the tokens, summed over the alignments that stayed in the beam.
        lm_score: log-probability of the words (or labels) in the language model with the end of the text, unweighted.
        num_words: complete words; the last one is complete where the text ends.
        num_unknown: words that are not in the lexicon; 0 without one.
        unknown_letters: the number of their labels.
        hotword_score: sum of the weights of the matches.
        hotwords: the matches, from left to right.
        text, words: spelled out; empty in results of the search, which handles labels only.
        rnn_score, source_score: unweighted log-probabilities in the language models of rescoring; None before it.
    """

    tokens: np.ndarray
    score: float
    acoustic_score: float
    lm_score: float = 0.0
    num_words: int = 0
    num_unknown: int = 0
    unknown_letters: int = 0
    hotword_score: float = 0.0
    hotwords: tuple[HotwordMatch, ...] = ()
    text: str = ""
    words: tuple[str, ...] = ()
    rnn_score: float | None = None
    source_score: float | None = None


class LabelModel(Protocol):
    """A language model of labels without tables, which scores many prefixes at once.

    A row is its result for a prefix: (V,) float32 natural log-probabilities of each label as the next one, at most
    0, and of the end of the text in the column of the blank. A state is an array of any shape and type, from which the
    model continues the prefix.
    """

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and state of the empty prefix."""

    def step(self, states: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n, V) and states (n, ...) of n prefixes, from their states without the last label, and that label."""


class BeamSearch:
    """A prefix beam search for emissions of V labels. It does not store emissions, so threads may share it.

    Prefixes with equal scores are ordered by age (the one that entered the beam in an earlier frame first), then by
    their parents, then by label. So results do not depend on threads, or on the pieces in which an emission comes.

    A word is a run of labels without a delimiter, or one standalone label (as a Chinese character may be).

    Args:
        num_labels: V, blank included.
        blank: index of the blank label, 0 <= blank < V.
        options: None means the defaults.
        delimiters: labels between words; by default there are none, and a text is one word.
        standalone: labels that are words of their own.
        lexicon: words and their spelling; needed for a language model of words, and for `only_lexicon`.
        lm: an n-gram model of the lexicon's words; with `label_words`, of labels.
        label_words: (V,) integers, the number of each label in a language model of labels; the blank's is not read.
        label_model: in place of lm; for example a recurrent model. Matrix libraries round differently for different
            numbers of prefixes, so scores may depend on the emissions that are decoded together.
        hotwords: words and phrases to expect, see `Hotwords`.
        spellings: of labels that are pieces of words. Then delimiters, standalone, lexicon, label_words, hotwords and
            the tokens of hypotheses are characters, not labels.
    Raises:
        InputError: a label is not one of the V or has two roles, or the parts contradict the rules above.
    Source: Graves 2012, "Supervised sequence labelling", section 7.5; Hannun et al. 2014, "First-pass large vocabulary
        continuous speech recognition using bi-directional recurrent DNNs", algorithm 1.
    """

    def __init__(
        self,
        *,
        num_labels: int,
        blank: int,
        options: BeamOptions | None = None,
        delimiters: Iterable[int] = (),
        standalone: Iterable[int] = (),
        lexicon: WordTrie | None = None,
        lm: NgramTables | None = None,
        label_words: Sequence[int] | np.ndarray | None = None,
        label_model: LabelModel | None = None,
        hotwords: Hotwords | None = None,
        spellings: Spellings | None = None,
    ):
        if not 0 <= blank < num_labels:
            raise InputError(f"blank must be one of the {num_labels} labels, 0 .. {num_labels - 1}; got {blank}")
        self.options = options or BeamOptions()
        if spellings is not None and (spellings.num_labels, spellings.blank) != (num_labels, blank):
            raise InputError(
                f"spellings must be of the {num_labels} labels with the blank {blank}; "
                f"got {spellings.num_labels} with the blank {spellings.blank}"
            )
        if spellings is not None and label_model is not None:
            raise InputError("label_model needs labels of one character each; leave it out, or the spellings")
        self.num_labels, self.blank, self.spellings = num_labels, blank, spellings
        self._kernels = _kernels if spellings is None else _subword_kernels
        self._num_units = num_labels if spellings is None else spellings.num_characters
        self._hotwords = hotwords or Hotwords((), ())
        self._kinds = np.full(self._num_units, PART, dtype=np.int32)
        for name, labels, kind in (("delimiters", delimiters, DELIMITER), ("standalone", standalone, STANDALONE)):
            for label in self._checked(labels, name=name):
                if self._kinds[label] != PART:
                    raise InputError(f"{name} must hold labels that are not delimiters already; got {label}")
                self._kinds[label] = kind
        self._checked(self._hotwords.labels, name="hotwords")
        if lexicon is not None:
            for label in self._checked(lexicon.labels, name="spellings"):
                if self._kinds[label] == DELIMITER:
                    raise InputError(f"spellings must hold no delimiters; got {label}")
        elif self.options.only_lexicon:
            raise InputError("only_lexicon needs a lexicon; give one, or leave it off")
        if lm is None and label_words is not None:
            raise InputError("label_words needs a language model; give lm, or leave it off")
        if lm is not None and label_model is not None:
            raise InputError(
                "lm and label_model must not both be given: a search has one language model; leave one out"
            )
        if lm is not None and lexicon is None and label_words is None:
            raise InputError(
                "lm needs a lexicon (for a model of words) or label_words (for one of labels); got neither"
            )
        words = np.full(self._num_units, -1) if label_words is None else np.asarray(label_words)
        if words.shape != (self._num_units,) or words.dtype.kind not in "iu":
            raise InputError(
                f"label_words must be one integer for each of the {self._num_units} {self._units}; "
                f"got shape {words.shape} in {words.dtype}"
            )
        lm_units = records.NO_LM
        if label_model is not None:
            lm_units = records.LM_OF_ROWS
        elif lm is not None:
            lm_units = records.LM_OF_WORDS if label_words is None else records.LM_OF_LABELS
        self.label_model = label_model
        self._set_rules(words, lexicon, lm, lm_units)

        self._set_start()

    def decode(self, emission: np.ndarray, *, num_best: int = 1, within: float = math.inf) -> list[BeamHypothesis]:
        """The n best texts of an emission, best first.

        Args:
            emission: (T, V) floating natural log-probabilities (not checked; without NaN); T may be 0.
            num_best: the most texts to return; there are at most as many as prefixes in the beam.
            within: nats; texts farther behind the best are left out.
        Returns:
            Texts by falling score, none with probability zero, all allowed by the lexicon; there may be none.
        Raises:
            InputError: emission is not (T, V) or not floating, or num_best is below 1.
        """
        state = self.start()
        state.advance(emission)
        return state.finish(num_best=num_best, within=within)

    def decode_many(
        self, emissions: Sequence[np.ndarray], *, num_best: int = 1, within: float = math.inf
    ) -> list[list[BeamHypothesis]]:
        """`decode` for each emission, in order. Successive emissions share the steps of a label model."""
        size = 1 if self.label_model is None else TOGETHER
        results: list[list[BeamHypothesis]] = []
        for begin in range(0, len(emissions), size):
            group = emissions[begin : begin + size]
            states = [self.start() for _ in group]
            self._run([state._searching(emission) for state, emission in zip(states, group, strict=True)])
            self._run([state._ending() for state in states])
            results += [state.finish(num_best=num_best, within=within) for state in states]
        return results

    def pruned(self, **changes: Any) -> BeamSearch:
        """The same search with other options of pruning, such as beam_width; it shares the arrays of this one."""
        other = object.__new__(BeamSearch)  # not `copy`, which would write the addresses of this search
        other.__dict__.update(self.__dict__, options=replace(self.options, **changes))
        other._rules, other._arrays = self._rules.copy(), dict(self._arrays)
        other._set_pruning()
        other._set_addresses()
        other._set_start()
        return other

    def start(self) -> BeamState:
        """A search that has seen no frame yet, for an emission that comes in pieces."""
        return BeamState(self)

    def _run(self, searches: Sequence[Iterator[_Question]]) -> None:
        """Run searches to their ends; each step of the label model computes the rows of all of them."""
        while questions := [(search, question) for search in searches if (question := next(search, None))]:
            assert self.label_model is not None
            searches = [search for search, _ in questions]
            inputs = [state._model_inputs(nodes) for _, (state, nodes) in questions]
            model_states, labels = (np.concatenate(parts) for parts in zip(*inputs, strict=True))
            rows, model_states = self.label_model.step(model_states, labels)
            start = 0
            for _, (state, nodes) in questions:
                state._answer(nodes, rows[start : start + len(nodes)], model_states[start : start + len(nodes)])
                start += len(nodes)

    @property
    def _units(self) -> str:
        return "labels" if self.spellings is None else "characters"

    def _checked(self, labels: Iterable[int], *, name: str) -> list[int]:
        """Labels, or characters, of the arguments."""
        labels = [int(label) for label in labels]
        for label in labels:
            if not 0 <= label < self._num_units or (label == self.blank and self.spellings is None):
                without = f" without the blank, {self.blank}" if self.spellings is None else ""
                raise InputError(f"{name} must hold {self._units} 0 .. {self._num_units - 1}{without}; got {label}")
        return labels

    def _set_rules(
        self, label_words: np.ndarray, lexicon: WordTrie | None, lm: NgramTables | None, lm_units: int
    ) -> None:
        """Write the whole search into one record for the compiled code."""
        options = self.options
        hotword_records = self._hotwords.records(self._kinds)
        # The most that a new label can add to a bonus: the language model adds nothing, no hotword begins in a word.
        unknown = max(options.unknown_word_score, 0.0) if lexicon is not None else 0.0
        closing = max(options.word_bonus, 0.0) + unknown
        words_gain = closing + unknown
        labels = np.zeros(self._num_units, dtype=records.LABEL)
        labels["kind"], labels["word"] = self._kinds, label_words
        starts = np.zeros(self._num_units)  # gain from hotwords that begin with the label, the children of node 0
        first = hotword_records[slice(*hotword_records["first_child"][:2])]
        starts[first["label"]] = first["potential"]
        labels["gain_inside"] = np.choose(self._kinds, [unknown, closing, words_gain + starts])
        labels["gain_outside"] = words_gain + starts

        rules = np.zeros(1, dtype=records.RULES)
        rules["num_labels"], rules["blank"] = self.num_labels, self.blank
        rules["has_lexicon"], rules["only_lexicon"] = lexicon is not None, options.only_lexicon
        rules["has_words"] = lm_units != records.NO_LM or lexicon is not None or options.word_bonus != 0
        rules["has_hotwords"] = self._hotwords.weights.size > 0
        rules["words_gain"] = words_gain
        rules["largest_gain"] = words_gain + max(hotword_records["step"].max(), hotword_records["fail_step"].max())
        rules["lm_weight"], rules["word_bonus"] = options.lm_weight, options.word_bonus
        rules["unknown_word_score"] = options.unknown_word_score
        rules["unknown_letter_score"] = options.unknown_letter_score
        arrays = {"LABELS": labels, "HOTWORDS": hotword_records}
        if self.spellings is not None:
            inside = np.choose(self._kinds, [unknown, closing, words_gain])
            arrays |= _spelling_records(self.spellings, self._kinds == PART, inside, words_gain)
            rules["hotword_step"] = rules["largest_gain"] - words_gain
            gains = arrays["SPELLINGS"]["gain_outside"] + rules["hotword_step"] * self.spellings.lengths
            rules["largest_gain"] = gains.max()
            rules["most_endings"], rules["longest"] = self.spellings.most_endings, self.spellings.lengths.max()
        if lexicon is not None:
            arrays["LEXICON"] = lexicon.records.copy()
        if lexicon is not None and lm is not None and lm_units == records.LM_OF_WORDS:
            rules["unknown_ahead"], arrays["LEXICON"]["ahead"] = _look_ahead(lexicon, lm, options)
        rules["lm_units"] = lm_units
        self._rules, self._arrays = rules, arrays
        self._lm = None if lm is None else contiguous(lm)
        self._set_pruning()
        self._set_addresses()

    def _set_pruning(self) -> None:
        """Write the options of pruning into the rules."""
        options, rules = self.options, self._rules
        rules["beam_width"] = options.beam_width
        rules["num_guests"] = (options.beam_width + 1) // 2 if self._hotwords.weights.size else 0
        rules["open_tokens"] = np.iinfo(np.int64).max if options.open_tokens is None else options.open_tokens
        rules["token_threshold"] = -np.inf if options.token_threshold is None else options.token_threshold
        rules["score_threshold"] = np.inf if options.score_threshold is None else options.score_threshold
        rules["skipped_above"] = np.inf if options.blank_threshold is None else math.log(options.blank_threshold)

    def _set_start(self) -> None:
        """Make the empty prefix, alone in the beam.

        Raises:
            InputError: the label model's rows have another shape, or need too much memory.
        """
        label_model, num_labels, spellings = self.label_model, self.num_labels, self.spellings
        num_prefixes = int(self._rules[0]["beam_width"] + self._rules[0]["num_guests"])
        self._first_nodes = np.zeros(records.ROOT + 1, dtype=records.NODE)
        self._num_nodes = records.ROOT + 1 + 16 * num_prefixes
        if spellings is not None:  # a frame may make a node for each character of four times as many texts
            self._num_nodes += (4 * num_prefixes + 1) * int(spellings.lengths.max())
        root = self._first_nodes[records.ROOT]
        root["label"], root["closing_state"], root["lm_state"] = -1, -1, 0 if self._lm is None else self._lm.start_state
        self._first_beam = np.zeros(num_prefixes, dtype=records.ACTIVE)
        self._first_beam["node"][0], self._first_beam["nonblank"][0] = records.ROOT, -np.inf
        if label_model is not None:
            row, state = label_model.start()
            if row.shape != (num_labels,):
                raise InputError(f"the label_model's rows must be ({num_labels},); got shape {row.shape}")
            needed = self._num_nodes * (4 * num_labels + state.nbytes)
            if needed > MOST_ROW_BYTES:
                raise InputError(
                    f"beam_width must be lower with this label_model, {self.options.beam_width} need {needed >> 20} MB "
                    f"where {MOST_ROW_BYTES >> 20} may be: its {num_labels} labels and its state for each prefix"
                )
            self._first_rows = np.zeros((self._num_nodes, num_labels), dtype=np.float32)
            self._first_model_states = np.zeros((self._num_nodes, *state.shape), dtype=state.dtype)
            self._first_rows[records.ROOT], self._first_model_states[records.ROOT] = row, state
            root["lm_state"] = records.HAS_ROW

    def _set_addresses(self) -> None:
        """Write the addresses of the arrays into the rules; they are valid as long as the arrays exist."""
        no_lm = np.zeros(len(NgramTables._fields), dtype=np.int64)
        self._arrays["LM"] = no_lm if self._lm is None else field_values(self._lm)
        for name, values in self._arrays.items():
            self._rules[name] = values.ctypes.data
        self._rules_at = self._rules.ctypes.data

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._kernels = _kernels if self.spellings is None else _subword_kernels
        self._set_addresses()  # addresses differ in a copy and in another process


def _spelling_records(
    spellings: Spellings, is_part: np.ndarray, inside: np.ndarray, outside: float
) -> dict[str, np.ndarray]:
    """The arrays of spellings for the compiled code.

    Args:
        is_part: (C,) whether each character is part of a word.
        inside: (C,) the most that a character adds to a bonus within a word, without hotwords.
        outside: the same elsewhere, for any character.
    """
    characters = np.zeros(len(spellings.characters), dtype=records.CHARACTER)
    characters["character"] = spellings.characters
    labels = np.zeros(spellings.num_labels, dtype=records.SPELLING)
    labels["start"], labels["length"], labels["next_same"] = spellings.starts, spellings.lengths, spellings.next_same
    for label, (start, length) in enumerate(zip(spellings.starts, spellings.lengths, strict=True)):
        gain, closes, ends = 0.0, False, False
        for place in range(start + length - 1, start - 1, -1):
            characters[place]["rest_gain"], characters[place]["closes"] = gain, closes
            characters[place]["rest_length"], characters[place]["ends_match"] = start + length - 1 - place, ends
            character = spellings.characters[place]
            ends = ends or not is_part[character]
            if place > start:
                within = is_part[character] and is_part[spellings.characters[place - 1]]
                gain += inside[character] if is_part[spellings.characters[place - 1]] else outside
                closes = closes or not within
            else:
                labels[label]["ends_match"] = ends
                labels[label]["gain_inside"] = gain + inside[character]
                labels[label]["gain_outside"] = gain + outside
    return {"SPELLINGS": labels, "CHARACTERS": characters, "SUFFIXES": spellings.suffixes}


def _look_ahead(lexicon: WordTrie, lm: NgramTables, options: BeamOptions) -> tuple[float, np.ndarray]:
    """The look-ahead bonus of an open word that has left the lexicon; and of each node of the lexicon, (N + 1,).

    One more label never raises it: if an unknown word is likelier than all words ahead, its score is used.

    Source: Ortmanns, Ney and Eiden 1996, "Language-model look-ahead for large vocabulary speech recognition", with a
        model of single words.
    """
    unknown, *known = options.lm_weight * np.maximum(lm.log_probs[1 : 1 + lm.num_words], _LEAST_AHEAD)
    numbers = np.where(lexicon.words < lm.num_words, lexicon.words, 0)
    ahead = lexicon.best_ahead(np.array([unknown, *known])[numbers])
    if not options.only_lexicon:
        letters = options.unknown_letter_score * lexicon.records["depth"]
        ahead = np.maximum(ahead, unknown + min(options.unknown_word_score, 0.0) + letters)
    ahead[0] = 0.0  # no word is open
    return unknown, ahead


class BeamState:
    """A running search, from `BeamSearch.start`. Use it from one thread at a time.

    It stores the prefixes of the beam from the point where they diverge, each with a label model's row and state, and
    eight bytes for each token before that point.
    """

    def __init__(self, search: BeamSearch):
        self._search = search
        num_prefixes = len(search._first_beam)
        self._agreed = array("q")
        self._state = np.zeros(1, dtype=records.STATE)
        self._arrays: dict[str, np.ndarray] = {}
        self._set("NODES", _longer(search._first_nodes, search._num_nodes))
        self._set("BEAM", search._first_beam.copy())
        self._set("CANDIDATES", np.empty(4 * num_prefixes, dtype=records.CANDIDATE))
        if self._search._rules[0]["num_guests"]:
            self._set("BEAM_WHOLE", self._search._first_beam[["blank", "nonblank", "total"]].astype(records.MASS))
            self._set("CANDIDATES_WHOLE", np.empty(4 * num_prefixes, dtype=records.MASS))
        self._set("SCORES", np.empty(4 * num_prefixes))
        self._set("INDICES", np.empty(max(3 * num_prefixes, search.num_labels), dtype=np.int64))
        if search.spellings is not None:
            endings = np.zeros(num_prefixes * search.spellings.most_endings, dtype=records.ENDING)
            endings["label"] = -1
            self._set("ENDINGS", endings)
            self._set("NEXT_ENDINGS", endings.copy())
            self._set("NEXT_BEAM", search._first_beam.copy())
            self._set("NEXT_WHOLE", np.zeros(num_prefixes, dtype=records.MASS))
            self._set("NEW_NODES", np.empty(4 * num_prefixes, dtype=np.int64))
        if search.label_model is not None:
            self._set("MISSING", np.empty(num_prefixes, dtype=np.int64))
            self._set("ROWS", search._first_rows.copy())
            self._model_states = search._first_model_states.copy()
        self._state["num_active"], self._state["root"] = 1, records.ROOT
        self._state["num_made"] = len(search._first_nodes)
        self._state["num_free"] = search._num_nodes - len(search._first_nodes)
        self._state_at = self._state.ctypes.data

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name, values in self._arrays.items():
            self._set(name, values)
        self._state_at = self._state.ctypes.data

    def copy(self) -> BeamState:
        """A search that goes on from here by itself."""
        other = object.__new__(BeamState)
        changing = {"_agreed": self._agreed[:], "_state": self._state.copy()}
        changing["_arrays"] = {name: values.copy() for name, values in self._arrays.items()}
        if self._search.label_model is not None:
            changing["_model_states"] = self._model_states.copy()
        other.__setstate__({**self.__dict__, **changing})
        return other

    def advance(self, emission: np.ndarray) -> None:
        """Take the next frames: (T, V) as for `BeamSearch.decode`. Results do not depend on the pieces."""
        self._search._run([self._searching(emission)])

    def _searching(self, emission: np.ndarray) -> Iterator[_Question]:
        """Take the next frames; yield the nodes that need a row before the search can continue."""
        if emission.ndim != 2 or emission.shape[1] != self._search.num_labels:
            raise InputError(f"emission must be (T, {self._search.num_labels}); got shape {emission.shape}")
        if emission.dtype.kind != "f":
            raise InputError(f"emission must hold floating-point numbers; got {emission.dtype}")
        for start in range(0, len(emission), _BLOCK_FRAMES):
            self._agree()
            block = np.ascontiguousarray(emission[start : start + _BLOCK_FRAMES], dtype=np.float64)
            frame, kernel = 0, self._search._kernels["advance"]
            while True:
                frame = kernel(self._search._rules_at, self._state_at, block.ctypes.data, frame, len(block))
                if frame == len(block):
                    break
                if num_missing := int(self._state[0]["num_missing"]):
                    yield self, self._arrays["MISSING"][:num_missing]
                else:
                    self._double_nodes()

    def _ending(self) -> Iterator[_Question]:
        """Yield the nodes that need a row before the text can end, if there are any."""
        nodes = self._arrays["BEAM"]["node"][: int(self._state[0]["num_active"])]
        if self._search.label_model is not None:
            nodes = nodes[self._arrays["NODES"]["lm_state"][nodes] == records.NO_ROW]
            if nodes.size:
                yield self, nodes

    def _model_inputs(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inputs of a step of the label model: the states of the parents, and the labels."""
        asked = self._arrays["NODES"][nodes]
        return self._model_states[asked["parent"]], asked["label"]

    def _answer(self, nodes: np.ndarray, rows: np.ndarray, model_states: np.ndarray) -> None:
        self._arrays["ROWS"][nodes], self._model_states[nodes] = rows, model_states
        self._arrays["NODES"]["lm_state"][nodes] = records.HAS_ROW

    def stable_prefix(self) -> np.ndarray:
        """(U,) int64 tokens with which every prefix in the beam begins: no later frame can change them."""
        self._agree()
        return self._tokens(int(self._state[0]["root"]))

    def finish(self, *, num_best: int = 1, within: float = math.inf) -> list[BeamHypothesis]:
        """The n best texts if the emission ends here, as from `BeamSearch.decode`; more frames may follow."""
        if num_best < 1:
            raise InputError(f"num_best must be 1 or above; got {num_best}")
        self._search._run([self._ending()])
        finals = np.zeros(len(self._arrays["BEAM"]), dtype=records.FINAL)
        num_finals = self._search._kernels["finish"](self._search._rules_at, self._state_at, finals.ctypes.data)
        finals = finals[:num_finals]
        scores = finals["score"]
        order = np.argsort(-scores, kind="stable")[:num_best]
        order = order[(scores[order] > -math.inf) & (scores[order] >= scores.max(initial=-math.inf) - within)]
        return [self._hypothesis(final) for final in finals[order].tolist()]

    def _hypothesis(self, final: tuple[Any, ...]) -> BeamHypothesis:
        node, num_words, num_unknown, unknown_letters, acoustic_score, lm_score, hotword_score, score = final
        tokens = self._tokens(node)
        matches = self._search._hotwords.find(tokens.tolist(), self._search._kinds) if hotword_score else ()
        return BeamHypothesis(
            tokens=tokens,
            score=score,
            acoustic_score=acoustic_score,
            lm_score=lm_score,
            num_words=num_words,
            num_unknown=num_unknown,
            unknown_letters=unknown_letters,
            hotword_score=hotword_score,
            hotwords=tuple(matches),
        )

    def _tokens(self, node: int) -> np.ndarray:
        """(U,) int64 tokens of the prefix of a node."""
        nodes = self._arrays["NODES"]
        labels = np.empty(len(nodes), dtype=np.int64)
        length = self._search._kernels["trace"](nodes.ctypes.data, node, labels.ctypes.data, len(labels))
        return np.concatenate([np.array(self._agreed, dtype=np.int64), labels[len(labels) - length :]])

    def _agree(self) -> None:
        """Move the tokens that all prefixes share, those above the root, out of the tree."""
        nodes, state = self._arrays["NODES"], self._state[0]
        labels = []
        node = int(state["root"])
        if self._search.label_model is not None and nodes[node]["lm_state"] == records.NO_ROW:
            # The row of the root is made from the state of its parent, which stays.
            node = int(nodes[node]["parent"])
        while parent := int(nodes[node]["parent"]):
            labels.append(int(nodes[node]["label"]))
            nodes[node]["parent"] = 0
            nodes[parent]["slot"], nodes[parent]["next_sibling"] = records.FREE, state["first_free"]
            state["first_free"] = node = parent
            state["num_free"] += 1
        self._agreed.extend(reversed(labels))

    def _double_nodes(self) -> None:
        nodes = self._arrays["NODES"]
        self._set("NODES", _longer(nodes, 2 * len(nodes)))
        if self._search.label_model is not None:
            self._set("ROWS", np.concatenate([self._arrays["ROWS"]] * 2))
            self._model_states = np.concatenate([self._model_states] * 2)
        self._state["num_free"] += len(nodes)

    def _set(self, name: str, array: np.ndarray) -> None:
        self._arrays[name] = array
        self._state[name] = array.ctypes.data


_Question = tuple[BeamState, np.ndarray]  # nodes of a search that need a row


def _longer(nodes: np.ndarray, length: int) -> np.ndarray:
    """The nodes, and room for more: a node is written when it is made, so short emissions touch little memory."""
    longer = np.empty(length, dtype=nodes.dtype)
    longer[: len(nodes)] = nodes
    return longer


def warm_up(on_compile: Callable[[], object] | None = None, *, spellings: bool = False) -> None:
    """Load the compiled search, compiling it if necessary; otherwise the first `advance` does so.

    An installed package holds the machine code, and loads it in 0.1 s. From a checkout, the first process on a machine
    compiles it, in seconds, and stores it for later processes.

    Args:
        on_compile: called before a compilation, to explain the delay.
        spellings: load the search for labels that are pieces of words.
    """
    (_subword_kernels if spellings else _kernels).load(on_compile=on_compile)
