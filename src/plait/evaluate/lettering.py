"""Letters for pictures: a font that has the text's characters, or a spelling that the fonts at hand can show.

Matplotlib's DejaVu has no Hangul. Where the system has no Korean font either, Korean is romanised (Revised
Romanization, syllable by syllable) instead of drawn as boxes.
"""

from functools import cache
from pathlib import Path

from PIL import ImageFont

JAMO = """\
g kk n d tt r m b pp s ss - j jj ch k t p h
a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i
- k k k n n n t l k m l l l p l m p p t t ng t t k t p t"""
INITIALS, VOWELS, FINALS = (line.split() for line in JAMO.splitlines())
FIRST_SYLLABLE, LAST_SYLLABLE = 0xAC00, 0xD7A3


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A sans-serif font that can show ``text`` (or, if none can, the one that can show plain Latin)."""
    return _load(_path_for(_foreign(text)) or _latin(), size)


def legible(text: str) -> str:
    """``text`` itself when some font here can show it; otherwise romanised, and what remains escaped."""
    if _path_for(_foreign(text)) is not None:
        return text
    return "".join(romanised(c) for c in text).encode("ascii", "backslashreplace").decode()


def romanised(character: str) -> str:
    """A Hangul syllable in Latin letters; any other character as it is.

    >>> "".join(map(romanised, "파란 공"))
    'paran gong'
    """
    code = ord(character)
    if not FIRST_SYLLABLE <= code <= LAST_SYLLABLE:
        return character
    initial, rest = divmod(code - FIRST_SYLLABLE, len(VOWELS) * len(FINALS))
    vowel, final = divmod(rest, len(FINALS))
    return (INITIALS[initial] + VOWELS[vowel] + FINALS[final]).replace("-", "")


def wrapped(text: str, width: int, size: int) -> list[str]:
    """``text`` broken between words into lines of at most ``width`` pixels."""
    font, lines = font_for(text, size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _foreign(text: str) -> frozenset[str]:
    return frozenset(c for c in text if ord(c) > 0x7E)


@cache
def _path_for(characters: frozenset[str]) -> str | None:
    """The first font that has all ``characters``: matplotlib's own, else one of the system's, sans-serif first."""
    from matplotlib.font_manager import findSystemFonts

    if _has(_latin(), characters):
        return _latin()
    plain = lambda path: ("sans" not in path.lower(), "bold" in path.lower(), path)  # noqa: E731
    return next((path for path in sorted(findSystemFonts(), key=plain) if _has(path, characters)), None)


def _has(path: str, characters: frozenset[str]) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):  # a broken or unreadable font file is no font
        return False
    return all(font.get_char_index(ord(c)) for c in characters)


@cache
def _latin() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@cache
def _load(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
