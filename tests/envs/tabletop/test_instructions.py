from itertools import product

import pytest

from plait.envs.tabletop.instructions import TEMPLATES, sentences
from plait.envs.tabletop.tasks import DIRECTIONS
from plait.envs.tabletop.vocabulary import VOCABULARIES

KINDS = [(language, kind) for language in TEMPLATES for kind in TEMPLATES[language]]
LARGE = VOCABULARIES["large"]
PAIRS = list(product(LARGE.colours, LARGE.shapes))


def _all(language: str, kind: str, wording) -> set[str]:
    cases = product(PAIRS, PAIRS[::7], DIRECTIONS)
    return {
        s for target, reference, where in cases for s in sentences(language, kind, wording, target, reference, where)
    }


def _words(found: set[str]) -> set[str]:
    return {word for sentence in found for word in sentence.split()}


@pytest.mark.parametrize(("language", "kind"), KINDS)
def test_paraphrases_are_new_sentences_of_known_words(language: str, kind: str):
    train, paraphrase = _all(language, kind, "train"), _all(language, kind, "paraphrase")
    assert paraphrase and not train & paraphrase
    assert _words(paraphrase) <= _words(train)


@pytest.mark.parametrize("language", TEMPLATES)
def test_every_sentence_of_unknown_words_has_one_that_training_never_has(language: str):
    known = _words(set().union(*(_all(language, kind, "train") for kind in TEMPLATES[language])))
    for kind in TEMPLATES[language]:
        assert all(not set(sentence.split()) <= known for sentence in _all(language, kind, "unknown_words"))


@pytest.mark.parametrize(("language", "kind"), KINDS)
def test_templates_are_distinct_and_name_what_they_must(language: str, kind: str):
    named = {"beside": ["target", "reference", "where"], "push": ["target", "where"], "stack": ["target", "reference"]}
    named |= {"pick": ["target"], "bowl": ["target"], "recall": ["shape"]}
    for wording in ("train", "paraphrase", "unknown_words"):
        templates = getattr(TEMPLATES[language][kind], wording)
        assert len(set(templates)) == len(templates)
        assert all(f"{{{name}}}" in template for template in templates for name in named[kind])


@pytest.mark.parametrize("language", TEMPLATES)
@pytest.mark.parametrize("wording", ["train", "paraphrase", "unknown_words"])
def test_what_the_lamp_showed_is_not_in_the_words(language: str, wording: str):
    for shape in LARGE.shapes:
        told = {tuple(sentences(language, "recall", wording, (colour, shape), None, "")) for colour in LARGE.colours}
        assert len(told) == 1


def test_canonical_sentences():
    assert "pick up the red ball" in sentences("en", "pick", "train", ("red", "ball"), None, "")
    assert "빨간 공을 집어줘" in sentences("ko", "pick", "train", ("red", "ball"), None, "")
    recall = sentences("en", "recall", "train", ("red", "ball"), None, "")
    assert "pick up the ball of the colour that was shown" in recall
    beside = sentences("en", "beside", "train", ("red", "ball"), ("blue", "cylinder"), "left")
    assert "put the red ball left of the blue cylinder" in beside


def test_korean_particles_follow_the_last_sound():
    assert "초록색 큐브를 집어줘" in sentences("ko", "pick", "train", ("green", "cube"), None, "")
    assert "하늘색 벽돌을 집어줘" in sentences("ko", "pick", "train", ("cyan", "brick"), None, "")
    stack = sentences("ko", "stack", "train", ("red", "cube"), ("blue", "cylinder"), "")
    assert "빨간 큐브를 파란 원기둥 위에 쌓아줘" in stack
    assert "보여준 색의 공을 집어줘" in sentences("ko", "recall", "train", ("red", "ball"), None, "")
    assert "보여준 색의 원기둥을 집어줘" in sentences("ko", "recall", "train", ("red", "cylinder"), None, "")
    push = sentences("ko", "push", "train", ("red", "ball"), None, "left")
    assert "빨간 공을 왼쪽으로 밀어줘" in push


def test_mixed_is_both_languages():
    arguments = ("push", "train", ("red", "ball"), None, "behind")
    assert sentences("mixed", *arguments) == sentences("en", *arguments) + sentences("ko", *arguments)
