"""The beam search in compiled code: `asr/ctc/beam.py` explains it, `asr/compute/machine_code.py` loads it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from asr.compute.addresses import array_from as _array
from asr.compute.addresses import compiled as _compiled
from asr.ctc import beam_records as records
from asr.ctc.hotwords import DELIMITER, HOTWORD_NODE, PART, spot, spot_end
from asr.ctc.ngram_kernel import query, tables_at
from asr.ctc.ngram_tables import NgramTables
from asr.ctc.trie import LEXICON_NODE, find_child

for _function in (find_child, spot, spot_end):
    register_jitable(_function)


_ROUNDING = 1e-9  # nats: sums of the same weights in another order


class _Tables(NamedTuple):
    """The arrays of labels, lexicon, hotwords and language model."""

    labels: np.ndarray
    lexicon: np.ndarray
    hotwords: np.ndarray
    lm: NgramTables
    rows: np.ndarray


@_compiled
def _tables(rules, state):
    lexicon, hotwords = _array(rules.LEXICON, LEXICON_NODE), _array(rules.HOTWORDS, HOTWORD_NODE)
    return _Tables(
        _array(rules.LABELS, records.LABEL), lexicon, hotwords, tables_at(rules.LM), _array(state.ROWS, np.float32)
    )


@_compiled
def advance(rules_at, state_at, emission_at, first_frame, num_frames):
    """Search the frames from first_frame on; -> frames done, fewer than all if nodes or rows are missing.

    If rows are missing, MISSING lists the `num_missing` nodes that need one; if nodes are missing, `num_missing` is 0.

    This is one function, because LLVM compiles each function again in every function that calls it.
    """
    rules, state = _array(rules_at, records.RULES)[0], _array(state_at, records.STATE)[0]
    tables = _tables(rules, state)
    nodes, beam = _array(state.NODES, records.NODE), _array(state.BEAM, records.ACTIVE)
    candidates, scores = _array(state.CANDIDATES, records.CANDIDATE), _array(state.SCORES, np.float64)
    whole, candidates_whole = _array(state.BEAM_WHOLE, records.MASS), _array(state.CANDIDATES_WHOLE, records.MASS)
    missing, no_endings = _array(state.MISSING, np.int64), _array(state.ENDINGS, records.ENDING)
    state.num_missing = 0
    live = left = _array(state.INDICES, np.int64)
    width, num_guests = rules.beam_width, rules.num_guests
    for t in range(first_frame, num_frames):
        frame = _array(emission_at + t * rules.num_labels * 8, np.float64)
        if frame[rules.blank] > rules.skipped_above:
            for slot in range(state.num_active):
                active = beam[slot]
                active.total += frame[rules.blank]
                active.blank, active.nonblank = active.total, -np.inf
                if num_guests > 0:
                    whole[slot].total += frame[rules.blank]
                    whole[slot].blank, whole[slot].nonblank = whole[slot].total, -np.inf
            continue
        if state.num_free < width + num_guests:
            return t

        threshold = rules.token_threshold
        if frame[rules.blank] < threshold:  # perhaps all labels are below it
            best_label = frame[rules.blank]
            for label in range(rules.num_labels):
                best_label = max(best_label, frame[label])
            threshold = min(threshold, best_label)

        # Extend the prefixes of the beam: with Φ, with their last label, or with it as a new token of their parent.
        count, num_ranked = np.int64(0), 0
        highest, lowest, top = -np.inf, np.inf, -np.inf
        for slot in range(state.num_active):
            active = beam[slot]
            node = nodes[active.node]
            candidate = candidates[count]
            blank, nonblank = active.total + frame[rules.blank], -np.inf
            before, before_whole = -np.inf, -np.inf
            if node.label >= 0:
                nonblank = active.nonblank + frame[node.label]
                parent = nodes[node.parent]  # of the root: the scratch row
                if node.parent > 0 and parent.slot >= 0:
                    before = beam[parent.slot].blank if parent.label == node.label else beam[parent.slot].total
                    if num_guests > 0:
                        above = whole[parent.slot]
                        before_whole = above.blank if parent.label == node.label else above.total
                        if node.certain > parent.certain + _ROUNDING:
                            before = before_whole
                        if active.total == -np.inf and frame[node.label] < threshold:  # new among the members
                            before = -np.inf
                    nonblank = _log_add(nonblank, before + frame[node.label])
            total = _log_add(blank, nonblank)
            score, guest_score = total + node.bonus, -np.inf
            most = active.total + node.bonus - node.ahead
            if num_guests > 0:
                most = whole[slot].total + node.bonus - node.ahead + node.hope
                mass = candidates_whole[count]
                mass.blank, mass.nonblank = whole[slot].total + frame[rules.blank], -np.inf
                if node.label >= 0:
                    mass.nonblank = _log_add(whole[slot].nonblank + frame[node.label], before_whole + frame[node.label])
                mass.total = _log_add(mass.blank, mass.nonblank)
                if node.hope > 0.0:
                    guest_score = mass.total + node.bonus + node.hope
            if most > top:
                top = most
            if max(score, guest_score) > -np.inf:
                candidate.node, candidate.label, candidate.is_member = active.node, -1, 1
                candidate.blank, candidate.nonblank = blank, nonblank
                candidate.total, candidate.score, candidate.guest_score = total, score, guest_score
                count += 1
                if score > -np.inf:
                    num_ranked += 1
                    highest, lowest = max(highest, score), min(lowest, score)

        # Prefixes that cannot score above the bar are not among the best, and are skipped.
        bar = highest - rules.score_threshold
        if num_ranked >= width and lowest > bar:
            bar = lowest
        guest_bar = bar
        if num_guests > 0:
            count, bar, guest_bar = _select_best(candidates, candidates_whole, scores, count, bar, guest_bar, rules)
        num_live = 0
        likeliest = -np.inf
        for label in range(rules.num_labels):
            log_prob = frame[label]
            if label != rules.blank and log_prob >= threshold and top + log_prob + rules.largest_gain > bar:
                live[num_live] = label
                num_live += 1
                if log_prob > likeliest:
                    likeliest = log_prob

        # Find new prefixes, which are not in the beam yet.
        for slot in range(state.num_active):
            active = beam[slot]
            node = nodes[active.node]
            closed = node.bonus - node.ahead
            reached = whole[slot].total if num_guests > 0 else active.total
            if not reached + closed + node.hope + likeliest + rules.largest_gain > bar:
                continue
            in_word = node.label >= 0 and tables.labels[node.label].kind == PART
            open_match = tables.hotwords[node.hotword]
            for i in range(num_live):
                label = live[i]
                acoustic = (active.blank if label == node.label else active.total) + frame[label]
                whole_acoustic = acoustic
                if num_guests > 0:
                    whole_acoustic = (whole[slot].blank if label == node.label else whole[slot].total) + frame[label]
                if node.hotword > 0:
                    leads_on = open_match.next_labels >> (label & 63) & 1
                    gain = rules.words_gain + (open_match.step if leads_on else open_match.fail_step)
                else:
                    gain = tables.labels[label].gain_inside if in_word else tables.labels[label].gain_outside
                inside = in_word and tables.labels[label].kind == PART
                bonus = node.bonus if inside else closed
                most = whole_acoustic + bonus + node.hope + gain
                if not most > bar:
                    continue
                if inside and not (most > guest_bar or acoustic + bonus + rules.words_gain > bar):  # no match ends
                    continue
                child = _child(nodes, active.node, label)
                if child > 0 and nodes[child].slot >= 0:
                    continue
                if rules.lm_units == records.LM_OF_ROWS and node.lm_state == records.NO_ROW:
                    missing[state.num_missing] = active.node
                    state.num_missing += 1
                    break
                bonus, hope, certain = 0.0, 0.0, 0.0
                if rules.has_words:
                    if not _extend(nodes, active.node, label, np.int64(0), tables, rules):
                        continue
                    bonus, hope, certain = nodes[0].bonus, nodes[0].hope, nodes[0].certain
                elif rules.has_hotwords:
                    hotword, weight = spot(tables.hotwords, node.hotword, not inside, label)
                    certain = node.hotword_score + weight + tables.hotwords[hotword].settled
                    bonus, hope = certain, tables.hotwords[hotword].potential - tables.hotwords[hotword].settled
                if certain > node.certain + _ROUNDING:
                    acoustic = whole_acoustic
                score, guest_score = acoustic + bonus, -np.inf
                if hope > 0.0:
                    guest_score = whole_acoustic + bonus + hope
                if not (score > bar or guest_score > guest_bar):
                    continue
                candidate = candidates[count]
                candidate.node, candidate.label, candidate.is_member = active.node, label, 1
                candidate.blank, candidate.nonblank = -np.inf, acoustic
                candidate.total, candidate.score, candidate.guest_score = acoustic, score, guest_score
                if num_guests > 0:
                    mass = candidates_whole[count]
                    mass.blank, mass.nonblank, mass.total = -np.inf, whole_acoustic, whole_acoustic
                count += 1
                if score > highest:
                    highest = score
                if count == 4 * (width + num_guests):  # as many as there is room for
                    count, bar, guest_bar = _select_best(
                        candidates, candidates_whole, scores, count, bar, guest_bar, rules
                    )
        if state.num_missing > 0:  # the frame is repeated later, and overwrites all results so far
            return t
        if count > width or num_guests > 0:
            count, bar, guest_bar = _select_best(candidates, candidates_whole, scores, count, bar, guest_bar, rules)

        # Make the candidates the beam, and nodes for the new ones.
        num_left = state.num_active
        for slot in range(num_left):
            left[slot] = beam[slot].node
            nodes[left[slot]].slot = records.OUTSIDE
        num_active, best = 0, np.int64(0)
        limit = highest - rules.score_threshold
        for i in range(count):
            candidate = candidates[i]
            is_member = candidate.is_member == 1 and candidate.score > limit
            if not (is_member or candidate.guest_score > limit):
                continue
            at, label = candidate.node, candidate.label
            if label >= 0:
                above = at
                at = _child(nodes, above, label)
                if at == 0:
                    at = _add_node(nodes, above, label, state)
                    _extend(nodes, above, label, at, tables, rules)
            if is_member and candidate.score == highest and best == 0:
                best = at
            nodes[at].slot = num_active
            active = beam[num_active]
            active.node = at
            active.blank, active.nonblank, active.total = candidate.blank, candidate.nonblank, candidate.total
            if not is_member:
                active.blank = active.nonblank = active.total = -np.inf
            if num_guests > 0:
                whole[num_active] = candidates_whole[i]
            num_active += 1

        num_left = _drop_old(nodes, beam, whole, no_endings, left, num_left, num_active, best, rules, state)
        for i in range(num_left):
            _prune(nodes, left[i], state)
        _move_root(nodes, state)
    return num_frames


@_compiled
def _drop_old(nodes, beam, whole, endings, left, num_left, num_active, best, rules, state):
    """Drop prefixes that diverged from the best one more than open_tokens ago; -> the nodes that left the beam.

    With them drop all that diverged more than half as many ago, so that this happens rarely. If only guests diverged so
    early, drop them alone.
    """
    state.num_active = num_active
    if not (best > 0 and nodes[best].depth - nodes[state.root].depth > rules.open_tokens):
        return num_left
    agreed = _ancestor(nodes, best, nodes[best].depth - rules.open_tokens)
    for slot in range(num_active):
        if beam[slot].total > -np.inf and not _is_below(nodes, beam[slot].node, agreed):
            agreed = _ancestor(nodes, best, nodes[best].depth - rules.open_tokens // 2)
            break
    state.num_active = 0
    for slot in range(num_active):
        at = beam[slot].node
        if _is_below(nodes, at, agreed):
            nodes[at].slot = state.num_active
            beam[state.num_active] = beam[slot]
            if rules.num_guests > 0:
                whole[state.num_active] = whole[slot]
            for i in range(rules.most_endings):
                endings[state.num_active * rules.most_endings + i] = endings[slot * rules.most_endings + i]
            state.num_active += 1
        else:
            nodes[at].slot = records.OUTSIDE
            left[num_left] = at
            num_left += 1
    return num_left


@_compiled
def _prune(nodes, at, state):
    """Free a node that is neither in the beam nor above a node of the beam, then perhaps its parents."""
    while nodes[at].slot == records.OUTSIDE and nodes[at].first_child == 0 and at != state.root:
        above = nodes[at].parent
        if nodes[above].first_child == at:
            nodes[above].first_child = nodes[at].next_sibling
        else:
            sibling = nodes[above].first_child
            while nodes[sibling].next_sibling != at:
                sibling = nodes[sibling].next_sibling
            nodes[sibling].next_sibling = nodes[at].next_sibling
        nodes[at].slot, nodes[at].next_sibling = records.FREE, state.first_free
        state.first_free = at
        state.num_free += 1
        at = above


@_compiled
def _move_root(nodes, state):
    """Move the root down to the last node that all prefixes share."""
    while nodes[state.root].slot == records.OUTSIDE:
        child = nodes[state.root].first_child
        if child == 0 or nodes[child].next_sibling > 0:
            break
        state.root = child


@_compiled
def _add_node(nodes, parent, label, state):
    """A new node for a prefix and one more label, without its scores."""
    at = state.first_free
    if at > 0:
        state.first_free = nodes[at].next_sibling
    else:
        at = state.num_made
        state.num_made += 1
    state.num_free -= 1
    nodes[at].parent, nodes[at].first_child, nodes[at].slot, nodes[at].label = parent, 0, records.OUTSIDE, label
    nodes[at].next_sibling, nodes[parent].first_child = nodes[parent].first_child, at
    return at


@_compiled
def _extend(nodes, parent, label, node, tables, rules):
    """Fill in the scores of a prefix and one more label that depend on labels; -> False if the lexicon forbids it."""
    before, after = nodes[parent], nodes[node]
    kind = tables.labels[label].kind
    boundary = kind != PART or before.label < 0 or tables.labels[before.label].kind != PART
    spelling = before.spelling
    num_words, num_unknown, unknown_letters = before.num_words, before.num_unknown, before.unknown_letters
    lm_score, lm_state = before.lm_score, before.lm_state
    if boundary:
        allowed, num_words, num_unknown, unknown_letters, lm_score, lm_state = _close(nodes, parent, tables, rules)
        if not allowed:
            return False
        spelling = 0
    if rules.has_lexicon and kind != DELIMITER:
        if spelling == records.OFF:
            unknown_letters += 1
        else:
            known_letters = tables.lexicon[spelling].depth
            spelling = find_child(tables.lexicon, spelling, label)
            if spelling < 0:
                if rules.only_lexicon:
                    return False
                num_unknown += 1
                unknown_letters += known_letters + 1
                spelling = records.OFF
    if rules.lm_units == records.LM_OF_LABELS:
        # Pieces begin with the space before a word, so that a text may begin with a space, which its model never saw.
        between = before.label < 0 or tables.labels[before.label].kind == DELIMITER
        if rules.most_endings == 0 or kind != DELIMITER or not between:
            log_prob, lm_state = query(tables.lm, lm_state, tables.labels[label].word)
            lm_score += log_prob
    elif rules.lm_units == records.LM_OF_ROWS:
        lm_score += tables.rows[parent * rules.num_labels + label]
        lm_state = np.int64(records.NO_ROW)
    ahead = 0.0
    if rules.lm_units == records.LM_OF_WORDS and kind != DELIMITER:
        ahead = rules.unknown_ahead if spelling == records.OFF else tables.lexicon[spelling].ahead
    hotword, gain = spot(tables.hotwords, before.hotword, boundary, label)
    hotword_score = before.hotword_score + gain

    after.label, after.depth = label, before.depth + 1
    after.num_words, after.num_unknown, after.unknown_letters = num_words, num_unknown, unknown_letters
    after.spelling = spelling
    after.hotword, after.hotword_score = hotword, hotword_score
    after.lm_score, after.lm_state = lm_score, lm_state
    after.closing_state = -1
    after.certain = hotword_score + tables.hotwords[hotword].settled
    after.hope = tables.hotwords[hotword].potential - tables.hotwords[hotword].settled
    after.ahead = ahead
    after.bonus = _bonus(lm_score, num_words, num_unknown, unknown_letters, after.certain, rules) + ahead
    return True


@_compiled
def _close(nodes, node, tables, rules):
    """The values of a prefix with its last word complete: allowed, num_words, num_unknown, unknown_letters, lm_score,
    lm_state."""
    prefix = nodes[node]
    num_words, num_unknown, unknown_letters = prefix.num_words, prefix.num_unknown, prefix.unknown_letters
    lm_score, lm_state = prefix.lm_score, prefix.lm_state
    if prefix.label < 0 or tables.labels[prefix.label].kind == DELIMITER:
        return True, num_words, num_unknown, unknown_letters, lm_score, lm_state
    word = -1
    if rules.has_lexicon and prefix.spelling != records.OFF:
        word = tables.lexicon[prefix.spelling].word
        if word < 0:
            if rules.only_lexicon:
                return False, num_words, num_unknown, unknown_letters, lm_score, lm_state
            num_unknown += 1
            unknown_letters += tables.lexicon[prefix.spelling].depth
    if rules.lm_units == records.LM_OF_WORDS:
        if prefix.closing_state < 0:
            prefix.closing_score, prefix.closing_state = query(tables.lm, lm_state, word)
        lm_score += prefix.closing_score
        lm_state = prefix.closing_state
    return True, num_words + 1, num_unknown, unknown_letters, lm_score, lm_state


@_compiled
def _bonus(lm_score, num_words, num_unknown, unknown_letters, hotword_score, rules):
    bonus = rules.word_bonus * num_words + rules.unknown_word_score * num_unknown + hotword_score
    bonus += rules.unknown_letter_score * unknown_letters
    if rules.lm_weight > 0.0:  # 0 times -inf is not 0
        bonus += rules.lm_weight * lm_score
    return bonus


@_compiled
def _child(nodes, parent, label):
    """The node of a prefix and one more label, or 0."""
    child = nodes[parent].first_child
    while child > 0 and nodes[child].label != label:
        child = nodes[child].next_sibling
    return child


@_compiled
def _ancestor(nodes, node, depth):
    while nodes[node].depth > depth:
        node = nodes[node].parent
    return node


@_compiled
def _is_below(nodes, node, above):
    """Whether a prefix begins with another one, or is it."""
    return nodes[node].depth >= nodes[above].depth and _ancestor(nodes, node, nodes[above].depth) == above


@_compiled
def _log_add(a, b):
    """log(exp(a) + exp(b)); the smaller one is left out if it cannot change the larger one in float64."""
    if a < b:
        a, b = b, a
    if b - a > -37.0:  # false for two -inf, whose difference is NaN
        return a + math.log1p(math.exp(b - a))
    return a


@_compiled
def _select_best(candidates, whole, scores, count, bar, guest_bar, rules):
    """Move the best candidates to the front, in their order; -> their number, and both bars.

    The `beam_width` best by score are members. Of the others the `num_guests` best by guest score are guests, if their
    guest score is above the score of the worst member.
    """
    for i in range(count):
        scores[i] = candidates[i].score
    worst, ties = _lowest_of_best(scores, count, rules.beam_width)
    bar = max(bar, worst)
    size, num_hopeful = np.int64(0), np.int64(0)
    for i in range(count):
        score, is_member = candidates[i].score, 0
        if score > worst:
            is_member = 1
        elif score == worst and ties > 0:
            is_member = 1 if score > -np.inf else 0
            ties -= 1
        if is_member == 1 or (rules.num_guests > 0 and candidates[i].guest_score > bar):
            if size < i:
                candidates[size] = candidates[i]
                if rules.num_guests > 0:
                    whole[size] = whole[i]
            candidates[size].is_member = is_member
            size += 1
            if is_member == 0:
                scores[num_hopeful] = candidates[size - 1].guest_score
                num_hopeful += 1
    guest_bar = max(guest_bar, bar)
    if num_hopeful < rules.num_guests or rules.num_guests == 0:
        return size, bar, guest_bar
    worst, ties = _lowest_of_best(scores, num_hopeful, rules.num_guests)
    count, size = size, np.int64(0)
    for i in range(count):
        keep = candidates[i].is_member == 1 or candidates[i].guest_score > worst
        if not keep and candidates[i].guest_score == worst and ties > 0:
            keep = True
            ties -= 1
        if keep:
            candidates[size], whole[size] = candidates[i], whole[i]
            size += 1
    return size, bar, max(guest_bar, worst)


@_compiled
def _lowest_of_best(scores, count, number):
    """The lowest of the `number` best scores, and how many of these are equal to it; -inf and 0 if there are fewer."""
    if count < number:
        return -np.inf, 0
    low, high = np.int64(0), count - 1  # Hoare's selection: scores[number - 1] becomes the number-th largest
    while low < high:
        pivot = scores[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while scores[i] > pivot:
                i += 1
            while scores[j] < pivot:
                j -= 1
            if i <= j:
                scores[i], scores[j] = scores[j], scores[i]
                i += 1
                j -= 1
        if number - 1 <= j:
            high = j
        elif number - 1 >= i:
            low = i
        else:
            break
    worst = scores[number - 1]
    num_tied = 0
    for rank in range(number):  # the best are in front now
        if scores[rank] == worst:
            num_tied += 1
    return worst, num_tied


@_compiled
def finish(rules_at, state_at, finals_at):
    """Fill in the scores of the prefixes in the beam as whole texts; -> their number."""
    rules, state = _array(rules_at, records.RULES)[0], _array(state_at, records.STATE)[0]
    nodes, beam, finals = (
        _array(state.NODES, records.NODE),
        _array(state.BEAM, records.ACTIVE),
        _array(finals_at, records.FINAL),
    )
    tables = _tables(rules, state)
    for slot in range(state.num_active):
        node = beam[slot].node
        allowed, num_words, num_unknown, unknown_letters, lm_score, lm_state = _close(nodes, node, tables, rules)
        if rules.lm_units == records.LM_OF_ROWS:
            lm_score += tables.rows[node * rules.num_labels + rules.blank]
        elif rules.lm_units != records.NO_LM and tables.lm.end_word > 0:
            log_prob, lm_state = query(tables.lm, lm_state, tables.lm.end_word)
            lm_score += log_prob
        hotword_score = nodes[node].hotword_score + spot_end(tables.hotwords, nodes[node].hotword)
        total = beam[slot].total
        if hotword_score > nodes[node].certain + _ROUNDING:
            total = _array(state.BEAM_WHOLE, records.MASS)[slot].total
        final = finals[slot]
        final.node = node
        final.num_words, final.num_unknown, final.unknown_letters = num_words, num_unknown, unknown_letters
        final.acoustic_score = total
        final.lm_score, final.hotword_score = lm_score, hotword_score
        final.score = -np.inf
        if allowed:
            final.score = total + _bonus(lm_score, num_words, num_unknown, unknown_letters, hotword_score, rules)
    return state.num_active


@_compiled
def trace(nodes_at, node, labels_at, num_labels):
    """Write the labels from the root to a node at the end of `labels`; -> their number."""
    nodes, labels = _array(nodes_at, records.NODE), _array(labels_at, np.int64)
    length = 0
    while nodes[node].parent > 0:
        length += 1
        labels[num_labels - length] = nodes[node].label
        node = nodes[node].parent
    return length


KERNELS = [advance, finish, trace]
