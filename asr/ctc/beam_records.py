"""Records that the beam search shares with its compiled code. A field in CAPITALS holds the address of an array."""

from __future__ import annotations

import numpy as np

LABEL = np.dtype([("kind", "i8"), ("word", "i8"), ("gain_inside", "f8"), ("gain_outside", "f8")])
NODE = np.dtype(
    [
        ("parent", "i8"),
        ("label", "i8"),  # the last of the prefix; -1 if it is empty
        ("depth", "i8"),
        ("first_child", "i8"),
        ("next_sibling", "i8"),  # of a free node: the next free one
        ("slot", "i8"),  # index in the beam, or OUTSIDE, or FREE
        ("num_words", "i8"),  # complete words only, as in all counts and scores here
        ("num_unknown", "i8"),
        ("unknown_letters", "i8"),
        ("spelling", "i8"),  # of the open word: node of the lexicon, or OFF
        ("hotword", "i8"),  # node of the open match
        ("lm_state", "i8"),  # with a label model: NO_ROW or HAS_ROW
        ("closing_state", "i8"),  # state after the open word, once computed; before that -1
        ("closing_score", "f8"),
        ("lm_score", "f8"),
        ("hotword_score", "f8"),
        ("ahead", "f8"),  # of the open word, at most 0
        ("certain", "f8"),  # weight of the matches that no later label can undo
        ("bonus", "f8"),
        ("hope", "f8"),  # gain of a guest from its open match, at least 0
    ]
)
ROOT, OUTSIDE, FREE, OFF = 1, -1, -2, -1
WAITING = -3  # the slot of a new text that may enter the beam
NO_ROW, HAS_ROW = 0, 1
_MASS = [(name, "f8") for name in ("blank", "nonblank", "total")]  # log-probability of alignments, by their end
MASS = np.dtype(_MASS)
ACTIVE = np.dtype([("node", "i8"), *_MASS])
ENDING = np.dtype([("label", "i8"), ("member", "f8"), ("whole", "f8")])  # alignments of a text that end with a label
SPELLING = np.dtype(  # of a label: its characters, the next label with the same ones, the most that it adds to a bonus
    [(name, "i8") for name in ("start", "length", "next_same", "ends_match")]
    + [(name, "f8") for name in ("gain_inside", "gain_outside")]
)
CHARACTER = np.dtype(  # of a spelling; in the rest after it a word may begin or end, and a match of a hotword end
    [(name, "i8") for name in ("character", "closes", "ends_match", "rest_length")] + [("rest_gain", "f8")]
)
CANDIDATE = np.dtype(  # a prefix of the beam (label -1), or a new prefix: one of the beam and a label
    [("node", "i8"), ("label", "i8"), ("is_member", "i8"), *_MASS, ("score", "f8"), ("guest_score", "f8")]
)
STATE = np.dtype(
    # the first of the free nodes that were used before, or 0; the nodes from num_made on are free and never were used
    [(name, "i8") for name in ("num_active", "root", "first_free", "num_made", "num_free", "num_missing")]
    + [(name, "i8") for name in ("NODES", "BEAM", "CANDIDATES", "SCORES", "INDICES", "MISSING", "ROWS")]
    + [(name, "i8") for name in ("BEAM_WHOLE", "CANDIDATES_WHOLE")]  # mass including alignments through guests
    + [(name, "i8") for name in ("ENDINGS", "NEXT_ENDINGS", "NEXT_BEAM", "NEXT_WHOLE", "NEW_NODES")]  # of spellings
)
FINAL = np.dtype(
    [(name, "i8") for name in ("node", "num_words", "num_unknown", "unknown_letters")]
    + [(name, "f8") for name in ("acoustic_score", "lm_score", "hotword_score", "score")]
)
RULES = np.dtype(
    [(name, "i8") for name in ("num_labels", "blank", "beam_width", "num_guests", "open_tokens")]
    + [(name, "i8") for name in ("has_words", "has_hotwords", "has_lexicon", "only_lexicon")]
    + [(name, "i8") for name in ("lm_units", "most_endings", "longest")]  # the last two are 0 without spellings
    + [(name, "f8") for name in ("token_threshold", "score_threshold", "skipped_above", "words_gain", "largest_gain")]
    + [("hotword_step", "f8")]  # the most that a character adds by hotwords; with spellings only
    + [(name, "f8") for name in ("lm_weight", "word_bonus")]
    + [(f"unknown_{name}", "f8") for name in ("word_score", "letter_score", "ahead")]
    + [(name, "i8") for name in ("LABELS", "LEXICON", "HOTWORDS", "LM")]  # LM: `field_values` of an `NgramTables`
    + [(name, "i8") for name in ("SPELLINGS", "CHARACTERS", "SUFFIXES")]
)
NO_LM, LM_OF_WORDS, LM_OF_LABELS, LM_OF_ROWS = 0, 1, 2, 3
