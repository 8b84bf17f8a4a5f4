"""The beam search over labels that spell several characters; `asr/ctc/beam.py` explains it.

A prefix is a text of characters, a node of the same tree as in `asr/ctc/beam_kernel.py`. Its alignments are sorted by
their last label, because this label begins a new token only after Φ:

    p_blank(y, t)  = p(y, t-1) p_t(Φ)                                          p = p_blank + sum over c of p_ends(y, c)
    p_ends(y, c, t) = p_ends(y, c, t-1) p_t(c) + (p(x, t-1) - p_ends(x, c, t-1)) p_t(c)    where y = x spelling(c)

So all segmentations of a text are one prefix, and nothing is counted twice.
"""

from __future__ import annotations

import math

import numpy as np
from numba.extending import register_jitable

from asr.compute.addresses import array_from as _array
from asr.compute.addresses import compiled as _compiled
from asr.ctc import beam_records as records
from asr.ctc.beam_kernel import (
    _ROUNDING,
    _add_node,
    _child,
    _drop_old,
    _extend,
    _log_add,
    _move_root,
    _prune,
    _select_best,
    _tables,
    finish,
    trace,
)
from asr.ctc.hotwords import PART
from asr.ctc.spellings import SUFFIX_NODE
from asr.ctc.trie import find_child

register_jitable(find_child)


@_compiled
def advance(rules_at, state_at, emission_at, first_frame, num_frames):
    """Search the frames from first_frame on; -> frames done, fewer than all if nodes are missing."""
    rules, state = _array(rules_at, records.RULES)[0], _array(state_at, records.STATE)[0]
    tables = _tables(rules, state)
    spellings, characters = _array(rules.SPELLINGS, records.SPELLING), _array(rules.CHARACTERS, records.CHARACTER)
    suffixes = _array(rules.SUFFIXES, SUFFIX_NODE)
    nodes = _array(state.NODES, records.NODE)
    beam, next_beam = _array(state.BEAM, records.ACTIVE), _array(state.NEXT_BEAM, records.ACTIVE)
    whole, next_whole = _array(state.BEAM_WHOLE, records.MASS), _array(state.NEXT_WHOLE, records.MASS)
    endings, next_endings = _array(state.ENDINGS, records.ENDING), _array(state.NEXT_ENDINGS, records.ENDING)
    candidates, scores = _array(state.CANDIDATES, records.CANDIDATE), _array(state.SCORES, np.float64)
    candidates_whole = _array(state.CANDIDATES_WHOLE, records.MASS)
    new_nodes = _array(state.NEW_NODES, np.int64)
    live = left = _array(state.INDICES, np.int64)
    width, num_guests, most_endings = rules.beam_width, rules.num_guests, rules.most_endings
    slack = math.log(most_endings)  # a text has as much mass as this many of its segmentations
    largest = 4 * (width + num_guests)
    state.num_missing = 0
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
                endings[slot * most_endings].label = -1
            continue
        if state.num_free < (largest + 1) * rules.longest:
            return t
        threshold = rules.token_threshold
        if frame[rules.blank] < threshold:  # perhaps all labels are below it
            best_label = frame[rules.blank]
            for label in range(rules.num_labels):
                best_label = max(best_label, frame[label])
            threshold = min(threshold, best_label)

        # Extend the texts of the beam by Φ, by their last label, and by labels that lead to them from other texts.
        count, num_ranked = np.int64(0), 0
        highest, lowest, top = -np.inf, np.inf, -np.inf
        for slot in range(state.num_active):
            node = nodes[beam[slot].node]
            mass, mass_whole = _gather(
                beam[slot].node, frame, threshold, nodes, beam, whole, endings, next_endings, 0, spellings, suffixes,
                rules, state,
            )  # fmt: skip
            score, guest_score = mass + node.bonus, -np.inf
            reached = whole[slot].total if num_guests > 0 else beam[slot].total
            if num_guests > 0 and node.hope > 0.0:
                guest_score = mass_whole + node.bonus + node.hope
            top = max(top, reached + node.bonus - node.ahead + node.hope)
            if max(score, guest_score) > -np.inf:
                candidate = candidates[count]
                candidate.node, candidate.label, candidate.is_member = beam[slot].node, -1, 1
                candidate.score, candidate.guest_score = score, guest_score
                count += 1
                if score > -np.inf:
                    num_ranked += 1
                    highest, lowest = max(highest, score), min(lowest, score)
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
            if label != rules.blank and log_prob >= threshold and top + log_prob + rules.largest_gain > bar - slack:
                live[num_live] = label
                num_live += 1
                likeliest = max(likeliest, log_prob)

        # Find new texts. A pair of a text and a label leads to a text that is in the beam, waits already, or is new.
        for slot in range(state.num_active):
            active = beam[slot]
            node = nodes[active.node]
            reached = whole[slot].total if num_guests > 0 else active.total
            closed = node.bonus - node.ahead
            if not reached + closed + node.hope + likeliest + rules.largest_gain > bar - slack:
                continue
            in_word = node.label >= 0 and tables.labels[node.label].kind == PART
            for i in range(num_live):
                label = live[i]
                spelling = spellings[label]
                first = characters[spelling.start]
                inside = in_word and tables.labels[first.character].kind == PART
                most = node.bonus if inside and first.closes == 0 else closed
                most += spelling.gain_inside if in_word else spelling.gain_outside
                hope = node.hope
                if not (inside and first.closes == 0 and node.hotword == 0):  # a hotword begins with a word
                    hope += rules.hotword_step * spelling.length
                # A match becomes certain where a word ends. Elsewhere its hope helps guests only.
                needed = bar if spelling.ends_match == 1 else guest_bar
                member = -np.inf if spelling.ends_match == 1 else active.total + frame[label] + most
                if not (reached + frame[label] + most + hope > needed - slack or member > bar - slack):
                    continue
                at, is_possible = active.node, True
                for place in range(spelling.start, spelling.start + spelling.length):
                    above, character = at, characters[place]
                    at = _child(nodes, above, character.character)
                    if at == 0:
                        at = _add_node(nodes, above, character.character, state)
                        is_possible = _extend(nodes, above, character.character, at, tables, rules)
                        if not is_possible:
                            break
                    most, hope = nodes[at].bonus + character.rest_gain, nodes[at].hope
                    if character.closes == 1:
                        most -= nodes[at].ahead
                    if character.closes == 1 or nodes[at].hotword > 0:
                        hope += rules.hotword_step * character.rest_length
                    needed, member = guest_bar, active.total + frame[label] + most
                    if character.ends_match == 1:
                        needed, member = bar, -np.inf
                    elif nodes[at].certain > node.certain + _ROUNDING:
                        member = reached + frame[label] + most
                    if not (reached + frame[label] + most + hope > needed - slack or member > bar - slack):
                        is_possible = False
                        break
                if not is_possible or nodes[at].slot != records.OUTSIDE:
                    _prune(nodes, at, state)
                    continue
                mass, mass_whole = _gather(
                    at, frame, threshold, nodes, beam, whole, endings, next_endings, 0, spellings, suffixes, rules,
                    state,
                )  # fmt: skip
                score, guest_score = mass + nodes[at].bonus, -np.inf
                if nodes[at].hope > 0.0:
                    guest_score = mass_whole + nodes[at].bonus + nodes[at].hope
                if not (score > bar or guest_score > guest_bar):
                    _prune(nodes, at, state)
                    continue
                candidate = candidates[count]
                candidate.node, candidate.label, candidate.is_member = at, label, 1
                candidate.score, candidate.guest_score = score, guest_score
                nodes[at].slot = records.WAITING
                count += 1
                highest = max(highest, score)
                if count == largest:
                    count, bar, guest_bar = _select_texts(
                        nodes, candidates, candidates_whole, scores, count, bar, guest_bar, new_nodes, rules, state
                    )
        if count > width or num_guests > 0:
            count, bar, guest_bar = _select_texts(
                nodes, candidates, candidates_whole, scores, count, bar, guest_bar, new_nodes, rules, state
            )

        # Make the candidates the beam.
        num_left = state.num_active
        for slot in range(num_left):
            left[slot] = beam[slot].node
        num_active, best = 0, np.int64(0)
        limit = highest - rules.score_threshold
        for i in range(count):
            candidate = candidates[i]
            is_member = candidate.is_member == 1 and candidate.score > limit
            if not (is_member or candidate.guest_score > limit):
                if candidate.label >= 0:
                    left[num_left] = candidate.node
                    num_left += 1
                continue
            mass, mass_whole = _gather(
                candidate.node, frame, threshold, nodes, beam, whole, endings, next_endings, num_active, spellings,
                suffixes, rules, state,
            )  # fmt: skip
            blank = -np.inf
            active, slot = next_beam[num_active], nodes[candidate.node].slot
            if slot >= 0:
                blank = beam[slot].total + frame[rules.blank]
            active.node, active.blank, active.nonblank, active.total = candidate.node, blank, -np.inf, mass
            if num_guests > 0:
                blank = whole[slot].total + frame[rules.blank] if slot >= 0 else -np.inf
                inner = next_whole[num_active]
                inner.blank, inner.nonblank, inner.total = blank, -np.inf, mass_whole
            if not is_member:
                active.blank = active.total = -np.inf
                for place in range(num_active * most_endings, (num_active + 1) * most_endings):
                    next_endings[place].member = -np.inf
            if is_member and candidate.score == highest and best == 0:
                best = active.node
            num_active += 1
        for i in range(num_left):
            nodes[left[i]].slot = records.OUTSIDE
        for slot in range(num_active):
            beam[slot] = next_beam[slot]
            nodes[beam[slot].node].slot = slot
            if num_guests > 0:
                whole[slot] = next_whole[slot]
        for place in range(num_active * most_endings):
            endings[place] = next_endings[place]

        num_left = _drop_old(nodes, beam, whole, endings, left, num_left, num_active, best, rules, state)
        for i in range(num_left):
            _prune(nodes, left[i], state)
        _move_root(nodes, state)
    return num_frames


@_compiled
def _gather(
    text, frame, threshold, nodes, beam, whole, endings, next_endings, row, spellings, suffixes, rules, state
):  # fmt: skip
    """The mass of a text after a frame, as a member and whole; writes its endings to a row of `next_endings`.

    It comes from the text itself, and from the texts of the beam that lack one label at its end: ancestors in the tree,
    found by reading the text backwards. A text outside the beam gets nothing by labels below the threshold.
    """
    has_guests, most_endings, first = rules.num_guests > 0, rules.most_endings, row * rules.most_endings
    slot = nodes[text].slot
    mass, mass_whole, count = -np.inf, -np.inf, 0
    is_new = slot < 0 or beam[slot].total == -np.inf  # among the members
    if slot >= 0:
        mass = beam[slot].total + frame[rules.blank]
        mass_whole = whole[slot].total + frame[rules.blank] if has_guests else mass
        for i in range(most_endings):
            ending = endings[slot * most_endings + i]
            if ending.label < 0:
                break
            stay = next_endings[first + i]
            stay.label = ending.label
            stay.member, stay.whole = ending.member + frame[ending.label], ending.whole + frame[ending.label]
            count += 1
    at, suffix = text, np.int64(0)
    while at != state.root:
        suffix = find_child(suffixes, suffix, nodes[at].label)
        if suffix < 0:
            break
        at = nodes[at].parent
        source = nodes[at].slot
        label = suffixes[suffix].ending if source >= 0 else np.int64(-1)
        while label >= 0:
            if slot < 0 and frame[label] < threshold:
                label = spellings[label].next_same
                continue
            before, before_whole = beam[source].total, whole[source].total if has_guests else beam[source].total
            for i in range(source * most_endings, (source + 1) * most_endings):
                if endings[i].label < 0:
                    break
                if endings[i].label == label:  # only after Φ or another label
                    before, before_whole = _without(beam, whole, endings, source, label, rules)
                    break
            if nodes[text].certain > nodes[at].certain + _ROUNDING:
                before = before_whole
            if is_new and slot >= 0 and frame[label] < threshold:
                before = -np.inf
            place = first  # endings are sorted by label, so that sums do not depend on guests
            while place < first + count and next_endings[place].label < label:
                place += 1
            if place == first + count or next_endings[place].label != label:
                for after in range(first + count, place, -1):
                    next_endings[after] = next_endings[after - 1]
                next_endings[place].label = label
                next_endings[place].member = next_endings[place].whole = -np.inf
                count += 1
            ending = next_endings[place]
            ending.member = _log_add(ending.member, before + frame[label])
            ending.whole = _log_add(ending.whole, before_whole + frame[label])
            label = spellings[label].next_same
    if count < most_endings:
        next_endings[first + count].label = -1
    for place in range(first, first + count):
        mass = _log_add(mass, next_endings[place].member)
        mass_whole = _log_add(mass_whole, next_endings[place].whole)
    return mass, mass_whole


@_compiled
def _without(beam, whole, endings, slot, label, rules):
    """The mass of a text's alignments that do not end with a label, as a member and whole."""
    before = beam[slot].blank
    before_whole = whole[slot].blank if rules.num_guests > 0 else before
    for place in range(slot * rules.most_endings, (slot + 1) * rules.most_endings):
        ending = endings[place]
        if ending.label < 0:
            break
        if ending.label != label:
            before = _log_add(before, ending.member)
            before_whole = _log_add(before_whole, ending.whole)
    return before, before_whole


@_compiled
def _select_texts(nodes, candidates, whole, scores, count, bar, guest_bar, new_nodes, rules, state):
    """`_select_best`, and free the nodes of the new texts that it drops."""
    num_new = 0
    for i in range(count):
        if candidates[i].label >= 0:
            new_nodes[num_new] = candidates[i].node
            nodes[candidates[i].node].slot = records.OUTSIDE
            num_new += 1
    count, bar, guest_bar = _select_best(candidates, whole, scores, count, bar, guest_bar, rules)
    for i in range(count):
        if candidates[i].label >= 0:
            nodes[candidates[i].node].slot = records.WAITING
    for i in range(num_new):
        _prune(nodes, new_nodes[i], state)
    return count, bar, guest_bar


KERNELS = [advance, finish, trace]
