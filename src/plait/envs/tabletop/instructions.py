"""A small grammar: how people ask for something, in English and Korean, and how they ask in words of their own.

In a template, ``{target}`` is the object to move, ``{shape}`` what it is without its colour, ``{reference}`` the object
beside it, ``{where}`` a side or direction. Korean targets and shapes carry their particle: 을 after a
consonant, 를 after a vowel.
"""

from dataclasses import dataclass

from plait.envs.tabletop.vocabulary import COLOURS, SHAPES, Pair

LANGUAGES = ("en", "ko", "mixed")


@dataclass(frozen=True)
class Templates:
    """Attributes:
    train: what demonstrations are labelled with.
    paraphrase: never in training, but made of words that are.
    unknown_words: with words that training never has.
    """

    train: tuple[str, ...]
    paraphrase: tuple[str, ...]
    unknown_words: tuple[str, ...]


WHERE = {
    "en": {
        "beside": {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"},
        "push": {"left": "to the left", "right": "to the right", "front": "closer", "behind": "away"},
    },
    "ko": {
        "beside": {"left": "왼쪽에", "right": "오른쪽에", "front": "앞에", "behind": "뒤에"},
        "push": {"left": "왼쪽으로", "right": "오른쪽으로", "front": "가까이", "behind": "멀리"},
    },
}

TEMPLATES = {
    "en": {
        "pick": Templates(
            train=(
                "pick up the {target}",
                "pick the {target} up",
                "grab the {target}",
                "lift the {target}",
                "take the {target}",
                "please lift the {target} up",
                "take hold of the {target} and lift it",
            ),
            paraphrase=(
                "please pick up the {target}",
                "grab hold of the {target}",
                "take the {target} and lift it up",
                "grab the {target} and pick it up please",
            ),
            unknown_words=(
                "fetch the {target}",
                "raise the {target} off the table",
                "could you get me the {target}",
                "hold the {target} in the air",
            ),
        ),
        "recall": Templates(
            train=(
                "pick up the {shape} of the colour that was shown",
                "pick the {shape} with the colour of the lamp up",
                "grab the {shape} of the colour that the lamp had",
                "lift the {shape} that has the colour of the lamp",
                "take the {shape} with the colour that was shown",
                "please lift the {shape} of the colour that the lamp had",
            ),
            paraphrase=(
                "please pick up the {shape} with the colour of the lamp",
                "take the {shape} that has the colour of the lamp",
                "grab the {shape} with the colour that was shown",
            ),
            unknown_words=(
                "fetch the {shape} that matches the light",
                "raise the {shape} in the colour from before",
                "could you get me the {shape} you saw the colour of",
            ),
        ),
        "bowl": Templates(
            train=(
                "put the {target} in the bowl",
                "place the {target} in the bowl",
                "drop the {target} into the bowl",
                "please put the {target} into the bowl",
                "take the {target} and place it in the bowl",
            ),
            paraphrase=(
                "please place the {target} in the bowl",
                "take the {target} and drop it into the bowl",
                "place the {target} into the bowl please",
            ),
            unknown_words=("the {target} belongs inside the bowl", "move the {target} to the dish"),
        ),
        "beside": Templates(
            train=(
                "put the {target} {where} the {reference}",
                "place the {target} {where} the {reference}",
                "set the {target} down {where} the {reference}",
                "please put the {target} {where} the {reference}",
                "take the {target} and place it {where} the {reference}",
            ),
            paraphrase=(
                "please place the {target} {where} the {reference}",
                "take the {target} and set it down {where} the {reference}",
                "put the {target} down {where} the {reference} please",
            ),
            unknown_words=(
                "the {target} should go {where} the {reference}",
                "move the {target} so that it sits {where} the {reference}",
            ),
        ),
        "push": Templates(
            train=(
                "push the {target} {where}",
                "slide the {target} {where}",
                "please push the {target} {where}",
                "push the {target} {where} on the table",
                "take the {target} and slide it {where}",
            ),
            paraphrase=(
                "please slide the {target} {where}",
                "slide the {target} {where} on the table",
                "take the {target} and push it {where} please",
            ),
            unknown_words=("shove the {target} {where}", "nudge the {target} a bit {where}"),
        ),
        "stack": Templates(
            train=(
                "stack the {target} on the {reference}",
                "put the {target} on the {reference}",
                "put the {target} on top of the {reference}",
                "please stack the {target} on the {reference}",
                "take the {target} and put it on the {reference}",
            ),
            paraphrase=(
                "stack the {target} on top of the {reference}",
                "take the {target} and stack it on the {reference}",
                "please put the {target} on top of the {reference}",
            ),
            unknown_words=(
                "build a tower with the {target} over the {reference}",
                "balance the {target} upon the {reference}",
            ),
        ),
    },
    "ko": {
        "pick": Templates(
            train=(
                "{target} 집어줘",
                "{target} 들어줘",
                "{target} 잡아줘",
                "{target} 집어 올려줘",
                "{target} 잡아서 들어줘",
                "{target} 좀 들어 올려줘",
            ),
            paraphrase=("{target} 좀 집어줘", "{target} 잡아서 집어 올려줘", "{target} 좀 잡아줘"),
            unknown_words=("{target} 위로 올려 주세요", "{target} 가져와", "{target} 손에 쥐어 봐"),
        ),
        "recall": Templates(
            train=(
                "보여준 색의 {shape} 집어줘",
                "램프가 보여준 색의 {shape} 집어줘",
                "램프와 같은 색의 {shape} 들어줘",
                "아까 보여준 색의 {shape} 잡아줘",
                "램프와 같은 색의 {shape} 좀 들어 올려줘",
            ),
            paraphrase=(
                "아까 램프가 보여준 색의 {shape} 들어줘",
                "램프가 보여준 색의 {shape} 들어 올려줘",
                "보여준 색의 {shape} 좀 잡아줘",
            ),
            unknown_words=("불빛과 똑같은 색깔의 {shape} 가져와", "방금 본 빛깔의 {shape} 위로 올려 주세요"),
        ),
        "bowl": Templates(
            train=(
                "{target} 그릇에 넣어줘",
                "{target} 그릇에 담아줘",
                "{target} 집어서 그릇 안에 넣어줘",
                "{target} 좀 그릇 안에 담아줘",
            ),
            paraphrase=("{target} 좀 그릇에 넣어줘", "{target} 집어서 그릇에 담아줘", "{target} 그릇 안에 담아줘"),
            unknown_words=("{target} 그릇 속으로 옮겨 주세요", "{target} 접시에 두세요"),
        ),
        "beside": Templates(
            train=(
                "{target} {reference} {where} 놓아줘",
                "{target} {reference} {where} 둬",
                "{target} 집어서 {reference} {where} 놓아줘",
                "{target} 좀 {reference} {where} 놓아줘",
            ),
            paraphrase=("{target} 집어서 {reference} {where} 둬", "{target} 좀 {reference} {where} 둬"),
            unknown_words=("{target} {reference} {where} 배치하세요", "{target} {reference} {where} 옮겨 주세요"),
        ),
        "push": Templates(
            train=(
                "{target} {where} 밀어줘",
                "{target} {where} 밀어",
                "{target} 좀 {where} 밀어줘",
                "{target} 천천히 {where} 밀어줘",
            ),
            paraphrase=(
                "{target} 좀 {where} 밀어",
                "{target} 천천히 {where} 밀어",
                "{target} 좀 천천히 {where} 밀어줘",
            ),
            unknown_words=("{target} {where} 움직여 주세요", "{target} {where} 보내 봐"),
        ),
        "stack": Templates(
            train=(
                "{target} {reference} 위에 쌓아줘",
                "{target} {reference} 위에 올려줘",
                "{target} 집어서 {reference} 위에 올려줘",
                "{target} 좀 {reference} 위에 쌓아줘",
            ),
            paraphrase=("{target} 집어서 {reference} 위에 쌓아줘", "{target} 좀 {reference} 위에 올려줘"),
            unknown_words=("{target} {reference} 위에 얹어 봐", "{target} {reference} 꼭대기에 두세요"),
        ),
    },
}


def sentences(language: str, kind: str, wording: str, target: Pair, reference: Pair | None, where: str) -> list[str]:
    """Every way to ask for one thing.

    Args:
        language: ``"en"``, ``"ko"``, or ``"mixed"`` for both.
        kind: of task: ``"pick"``, ``"recall"``, ``"bowl"``, ``"beside"``, ``"push"`` or ``"stack"``.
        wording: a field of ``Templates``.
        target, reference: (colour, shape).
        where: ``"left"``, ``"right"``, ``"front"`` or ``"behind"``; ignored where the kind has no direction.
    """
    result = []
    for tongue in ("en", "ko") if language == "mixed" else (language,):
        name, marked = (_english, str) if tongue == "en" else (_korean, _object_marked)
        words = {
            "target": marked(name(target)),
            "shape": marked(name(target).split()[-1]),
            "reference": name(reference) if reference else "",
            "where": WHERE[tongue].get(kind, {}).get(where, ""),
        }
        result += [template.format(**words) for template in getattr(TEMPLATES[tongue][kind], wording)]
    return result


def _english(pair: Pair) -> str:
    return " ".join(pair)


def _korean(pair: Pair) -> str:
    return f"{COLOURS[pair[0]].korean} {SHAPES[pair[1]].korean}"


def _object_marked(noun: str) -> str:
    """Hangul syllables are 28 to a vowel, the first of them without a final consonant."""
    return noun + ("을" if (ord(noun[-1]) - ord("가")) % 28 else "를")
