import pytest

from plait.evaluate import lettering
from plait.evaluate.lettering import font_for, legible, romanised, wrapped


def test_korean_is_romanised_syllable_by_syllable():
    words = {"빨간": "ppalgan", "공": "gong", "원기둥": "wongidung", "한글": "hangeul", "큐브": "kyubeu"}
    for hangul, latin in words.items():
        assert "".join(map(romanised, hangul)) == latin
    assert "".join(map(romanised, "red 공!")) == "red gong!"


def test_without_a_font_korean_is_romanised_and_the_rest_escaped(monkeypatch):
    monkeypatch.setattr(lettering, "_path_for", lambda characters: None if characters else lettering._latin())
    assert legible("파란 공") == "paran gong"
    assert legible("赤") == "\\u8d64"
    assert legible("red ball") == "red ball"


def test_what_is_drawn_is_never_a_box():
    for text in ("pick up the red ball", "빨간 공을 집어 주세요", "“ä” → 赤い"):
        shown = legible(text)
        path = font_for(shown, 15).path
        assert lettering._has(str(path), lettering._foreign(shown))


def test_wrapped_lines_fit_and_keep_every_word():
    text = "put the green cube in the bowl that stands to the left of the blue cylinder"
    lines = wrapped(text, 200, 15)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(font_for(line, 15).getlength(line) <= 200 for line in lines)


def test_a_word_that_is_too_long_stands_alone():
    assert wrapped("a " + "m" * 99 + " b", 100, 15) == ["a", "m" * 99, "b"]


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_is_one_empty_line(text):
    assert wrapped(text, 100, 15) == [""]
