from pathlib import Path

import pytest

from plait.encoders.tokenizer import Tokenizer

SENTENCES = ["pick up the red ball", "빨간 공을 집어줘"]


def test_words_numbers_and_mask() -> None:
    ids, mask = Tokenizer.build(SENTENCES).encode(["Pick up the RED cube!", "", "빨간 공을 집어줘"])
    assert ids.shape == (3, 16)
    assert mask.sum(1).tolist() == [5, 0, 3]
    assert ids[0, :5].tolist()[4:] == [1], "cube was never seen"
    assert not ids[~mask].any() and 1 not in ids[2].tolist()


def test_unknown_words_are_named() -> None:
    assert Tokenizer.build(SENTENCES).unknown_words("pick up the violet ball") == ["violet"]


@pytest.mark.parametrize("end", [".", "!", "?!", " ...", "。"])
def test_what_ends_a_sentence_is_no_unknown_word(end: str) -> None:
    tokenizer = Tokenizer.build(SENTENCES)
    assert tokenizer.unknown_words("Pick up the RED ball" + end) == []
    ids, mask = tokenizer.encode(["Pick up the RED ball" + end, SENTENCES[0]])
    assert ids[0].equal(ids[1]) and mask[0].equal(mask[1])


def test_punctuation_of_the_dataset_stays_a_word() -> None:
    tokenizer = Tokenizer.build(["Pick up the ball.", "now, the cube"])
    ids, mask = tokenizer.encode(["pick up the ball.", "pick up the ball"])
    assert mask.sum(1).tolist() == [5, 4] and 1 not in ids.tolist()[0]
    assert tokenizer.unknown_words("pick up: the ball!") == [":"]


def test_composed_and_decomposed_hangul_are_the_same_words() -> None:
    import unicodedata

    tokenizer = Tokenizer.build(SENTENCES)
    assert tokenizer.unknown_words(unicodedata.normalize("NFD", SENTENCES[1])) == []


def test_a_sentence_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="17 words, at most 16"):
        Tokenizer.build(SENTENCES).encode(["red " * 17])


def test_saved_and_loaded_it_encodes_the_same(tmp_path: Path) -> None:
    tokenizer = Tokenizer.build([*SENTENCES, "a " * 20])
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.length == tokenizer.length == 24
    assert loaded.encode(SENTENCES)[0].equal(tokenizer.encode(SENTENCES)[0])
    with pytest.raises(ValueError, match="25 words"):  # truncation in the file must not cut sentences silently
        loaded.encode(["a " * 25])


def test_any_number_of_sentences_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plait.encoders.tokenizer.LARGEST_TABLE", 3)
    tokenizer = Tokenizer.build(SENTENCES)
    expected = tokenizer.encode(["red ball"])[0]
    for i in range(10):
        ids, _ = tokenizer.encode(["red ball", f"pick {i}", "red ball"])
        assert ids[0].equal(expected[0]) and ids[2].equal(expected[0]) and not ids[1].equal(expected[0])
