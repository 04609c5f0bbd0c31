from collections import Counter

import numpy as np
import pytest

from plait.envs.tabletop.vocabulary import COLOURS, SHAPES, VOCABULARIES


@pytest.mark.parametrize("name", VOCABULARIES)
def test_words_are_defined_and_red_ball_is_a_seen_pair(name: str):
    words = VOCABULARIES[name]
    assert set(words.colours) <= set(COLOURS) and set(words.shapes) <= set(SHAPES)
    assert ("red", "ball") not in words.held_out
    assert all(colour in words.colours and shape in words.shapes for colour, shape in words.held_out)


def test_the_large_vocabulary_trains_every_word_in_several_pairs():
    words = VOCABULARIES["large"]
    assert len(words.colours) >= 8 and len(words.shapes) >= 5 and len(words.held_out) == 8
    seen = [(c, s) for c in words.colours for s in words.shapes if (c, s) not in words.held_out]
    uses = Counter(word for pair in seen for word in pair)
    assert min(uses[word] for word in (*words.colours, *words.shapes)) >= 3


@pytest.mark.parametrize("name", VOCABULARIES)
def test_seen_scenes_show_every_seen_pair_and_no_held_out_one(name: str):
    words, rng = VOCABULARIES[name], np.random.default_rng(0)
    scenes = [words.sample(rng, "seen", words.shapes) for _ in range(1000)]
    shown = {pair for pairs, target in scenes for pair in pairs}
    assert shown == {(c, s) for c in words.colours for s in words.shapes} - words.held_out


@pytest.mark.parametrize("name", VOCABULARIES)
def test_unseen_scenes_ask_for_every_held_out_pair(name: str):
    words, rng = VOCABULARIES[name], np.random.default_rng(0)
    scenes = [words.sample(rng, "unseen", words.shapes) for _ in range(500)]
    assert {target for _, (target,) in scenes} == words.held_out
    assert all(target in pairs for pairs, (target,) in scenes)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_distractor_scenes_show_every_pair_and_name_no_held_out_one(name: str):
    words, rng = VOCABULARIES[name], np.random.default_rng(0)
    scenes = [words.sample(rng, "distractor", words.shapes) for _ in range(1000)]
    assert {pair for pairs, _ in scenes for pair in pairs} >= words.held_out
    assert all(len(targets) >= 2 and words.held_out.isdisjoint(targets) for _, targets in scenes)


@pytest.mark.parametrize("combinations", ["seen", "unseen", "distractor", "all"])
def test_every_scene_is_two_colours_times_two_shapes(combinations):
    words, rng = VOCABULARIES["large"], np.random.default_rng(0)
    for _ in range(50):
        pairs, _ = words.sample(rng, combinations, words.shapes)
        assert len(set(pairs)) == 4
        assert all(count == 2 for words in zip(*pairs, strict=True) for count in Counter(words).values())
