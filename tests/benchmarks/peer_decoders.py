"""The decoders of bench_decode.py, each in a separate process, which may use another Python environment than ours.

    python peer_decoders.py asr|flashlight|pyctcdecode FILE.npz

FILE.npz has the emissions as `PART/ID`, the characters of the labels without Φ (label 0) as `characters`, or pieces of
SentencePiece, the words of the lexicon as `words`, and the path of an ARPA file as `arpa`. Each line of JSON on
standard input is a request to decode a part; the answer is one line with the texts and the seconds, without the time to
build the decoder.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import replace
from functools import lru_cache

import numpy as np

logging.disable(logging.CRITICAL)
PRUNED_BEAMS, PRUNED_TOKENS = -10.0, -5.0  # pyctcdecode's defaults
LN_10 = float(np.log(10.0))


def asr_decoder(characters, words, arpa):
    """Our search, `BeamSearch`; if pruned, with pyctcdecode's default limits."""
    from asr.ctc.beam import BeamOptions, BeamSearch
    from asr.ctc.hotwords import Hotwords
    from asr.ctc.spellings import Spellings
    from asr.ctc.trie import WordTrie
    from asr.decoding.options import HOTWORD_WEIGHT
    from asr.lm.ngram import NgramModel

    pieces = [piece.replace("▁", " ") for piece in characters]
    labels = {character: label for label, character in enumerate(dict.fromkeys("".join(pieces)), start=1)}
    spellings = None
    if max(map(len, pieces)) > 1:
        spellings = Spellings([[], *([labels[c] for c in piece] for piece in pieces)], blank=0)
    spelled = list(labels)
    model = NgramModel.read(arpa, cache=False)
    lexicon = WordTrie([[labels[c] for c in word] for word in words], [model.vocabulary.get(word, 0) for word in words])

    @lru_cache
    def make(width, lm, alpha, beta, hotwords, only_lexicon, pruned):
        options = BeamOptions(
            beam_width=width,
            token_threshold=PRUNED_TOKENS if pruned else None,
            score_threshold=-PRUNED_BEAMS if pruned else None,
        )
        if lm:
            options = replace(
                options, lm_weight=alpha, word_bonus=beta, unknown_word_score=-10.0, only_lexicon=only_lexicon
            )
        return BeamSearch(
            num_labels=len(characters) + 1,
            blank=0,
            options=options,
            delimiters=[labels[" "]],
            lexicon=lexicon if lm else None,
            lm=model.tables if lm else None,
            hotwords=Hotwords([[labels[c] for c in word] for word in hotwords], [HOTWORD_WEIGHT] * len(hotwords)),
            spellings=spellings,
        )

    def prepare(width, lm, alpha, beta, hotwords, only_lexicon, pruned):
        search = make(width, lm, alpha, beta, hotwords, only_lexicon, pruned)

        def decode(emission):
            hypotheses = search.decode(emission)
            return "".join(spelled[token - 1] for token in hypotheses[0].tokens) if hypotheses else ""

        return decode

    return prepare


def flashlight_decoder(characters, words, arpa):
    """LexiconFreeDecoder without a language model, LexiconDecoder with one; paths are summed as in CTC (log_add)."""
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconDecoder,
        LexiconDecoderOptions,
        LexiconFreeDecoder,
        LexiconFreeDecoderOptions,
        SmearingMode,
        Trie,
        ZeroLM,
    )
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import create_word_dict

    num_labels, space = len(characters) + 1, characters.index(" ") + 1
    dictionary = create_word_dict({word: [list(word)] for word in (*words, "<unk>")})
    model = KenLM(arpa, dictionary)
    trie = Trie(num_labels, space)
    start = model.start(False)
    for word in words:
        _, score = model.score(start, dictionary.get_index(word))
        trie.insert([characters.index(c) + 1 for c in word], dictionary.get_index(word), score)
    trie.smear(SmearingMode.MAX)

    @lru_cache
    def make(width, lm, alpha, beta):
        common = {"beam_size": width, "beam_size_token": num_labels, "beam_threshold": 1e9}
        common |= {"sil_score": 0.0, "log_add": True}
        if not lm:
            options = LexiconFreeDecoderOptions(**common, lm_weight=0.0, criterion_type=CriterionType.CTC)
            return LexiconFreeDecoder(options, ZeroLM(), space, 0, [])
        options = LexiconDecoderOptions(
            **common,
            lm_weight=alpha * LN_10,  # KenLM's scores are logarithms to base 10
            word_score=beta,
            unk_score=-float("inf"),
            criterion_type=CriterionType.CTC,
        )
        return LexiconDecoder(options, trie, model, space, 0, dictionary.get_index("<unk>"), [], False)

    def prepare(width, lm, alpha, beta, hotwords, only_lexicon, pruned):
        decoder = make(width, lm, alpha, beta)

        def decode(emission):
            best = decoder.decode(emission.ctypes.data, *emission.shape)[0]
            if lm:
                return " ".join(dictionary.get_entry(word) for word in best.words if word >= 0)
            path = [token for i, token in enumerate(best.tokens) if i == 0 or token != best.tokens[i - 1]]
            return "".join(characters[token - 1] for token in path if token > 0)

        return decode

    return prepare


def pyctcdecode_decoder(characters, words, arpa):
    """pyctcdecode's usual decoder, with its default pruning or without pruning."""
    from pyctcdecode import build_ctcdecoder

    plain = build_ctcdecoder(["", *characters])
    with_lm = build_ctcdecoder(["", *characters], arpa, unigrams=list(words))

    def prepare(width, lm, alpha, beta, hotwords, only_lexicon, pruned):
        if lm:
            with_lm.reset_params(alpha=alpha, beta=beta)
        decoder = with_lm if lm else plain
        beams, tokens = (PRUNED_BEAMS, PRUNED_TOKENS) if pruned else (-1e9, -1e9)

        def decode(emission):
            return decoder.decode(
                emission,
                beam_width=width,
                beam_prune_logp=beams,
                token_min_logp=tokens,
                hotwords=list(hotwords) or None,
            )

        return decode

    return prepare


DECODERS = {"asr": asr_decoder, "flashlight": flashlight_decoder, "pyctcdecode": pyctcdecode_decoder}


def main() -> None:
    name, path = sys.argv[1:]
    with np.load(path) as stored:
        emissions = {key: np.ascontiguousarray(stored[key], dtype=np.float32) for key in stored if "/" in key}
        words = [str(word) for word in stored["words"]]
        prepare = DECODERS[name]([str(c) for c in stored["characters"]], words, str(stored["arpa"]))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        part, limit = request.pop("part"), request.pop("limit")
        part_emissions = [emission for key, emission in emissions.items() if key.startswith(f"{part}/")][:limit]
        decode = prepare(**{**request, "hotwords": tuple(request["hotwords"])})
        decode(part_emissions[0][:10])
        start = time.process_time()  # other work on the machine does not count
        texts = [decode(emission) for emission in part_emissions]
        seconds = time.process_time() - start
        print(json.dumps({"seconds": seconds, "texts": [" ".join(text.split()) for text in texts]}), flush=True)


if __name__ == "__main__":
    main()
