"""Are the modalities aligned? Where embeddings of pictures and words lie, and what they tell of the thing named."""

from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from plait.alignment.metrics import compute_alignment_metrics, effective_rank, linear_cka, measure_modality_gap
from plait.diagnose import page
from plait.diagnose.heatmaps import ROWS
from plait.diagnose.plots import Projection, embedding_map
from plait.diagnose.probe import probe_label, probe_place
from plait.diagnose.scenes import Truth, views
from plait.diagnose.shown import listed, spoken
from plait.diagnose.style import webp
from plait.diagnose.subject import Answer, Subject, Tone
from plait.nn.pooling import masked_mean
from plait.policy import Policy
from plait.spec import INSTRUCTION, camera_name, group_modality, is_camera
from plait.types import Inputs, Tokens

QUESTION = "Are the modalities aligned?"
SCENES = 400  # half of them to fit the probes
DRAWN = 150  # scenes, in the maps
PROJECTIONS: dict[Projection, tuple[str, str]] = {  # the module that each needs, and the extra that brings it
    "t-SNE": ("sklearn", "plots"),
    "UMAP": ("umap", "umap"),
}
BEFORE, AFTER = "before", "after"  # the modalities meet
WHOLE = "all fused tokens"
FOUND = 0.5  # of the variance of its place: from here on the object is found, and not only begun to be
TELLING = 90.0  # percent: where pictures alone tell so much, they are no measure of what words have brought
SHOWN = (
    "cka",
    "effective_rank",
    "effective_rank_words",
    "modality_gap",
    "gap_to_variance_ratio",
    "matched_similarity",
    "mean_similarity",
)
WAYS = {"vision_to_text": "from pictures to words", "text_to_vision": "from words to pictures"}
RANKS = ("r1", "r5", "r10")
SPREAD = ("alignment", "uniformity_vision", "uniformity_text")
T = TypeVar("T")
Embeddings = dict[str, Float[Tensor, "n _"]]
Numbers = dict[str, Any]
Probes = dict[str, dict[str, Numbers]]  # before or after -> modality, or all fused tokens -> what its probes tell


@dataclass(frozen=True)
class Embedded:
    """Of n scenes: modality -> the mean of its tokens, before the modalities meet and after; and all fused tokens.

    ``after`` is empty where no fused token is a modality's own.
    """

    before: Embeddings
    after: Embeddings
    fused: Float[Tensor, "n d"]


def ask(subject: Subject) -> Answer:
    """The first moment of ``SCENES`` scenes."""
    if not subject.policy.spec.cameras:
        return Answer(QUESTION, "There is nothing to align: this policy has no camera.", "plain", {})
    seen = views(subject, SCENES)
    found = embed(subject.policy, subject.policy.prepare(seen.observation))
    told = seen.observation.instruction
    labels = [str(facts.get("target", words)) or "(no words)" for facts, words in zip(seen.facts, told, strict=True)]
    numbers: Numbers = {
        "scenes": SCENES,
        "label": "object" if "target" in seen.facts[0] else "instruction",
        BEFORE: {name: _pair(x, found.before[INSTRUCTION]) for name, x in _cameras(found.before).items()},
        AFTER: {
            name: _shared(x, found.after[INSTRUCTION], told) | _pair(x, found.after[INSTRUCTION])
            for name, x in _cameras(found.after).items()
        },
        "probes": _probes(found, labels, seen.truth),
    }
    verdict, tone = judge(numbers)
    parts = [*_shown_probes(numbers), *_shown_metrics(numbers), *_maps(found, labels)]
    return Answer(QUESTION, verdict, tone, numbers, tuple(parts))


@torch.inference_mode()
def embed(policy: Policy, inputs: Inputs) -> Embedded:
    """What the policy makes of single moments, on the processor."""
    training = policy.training
    parts = [_part(policy.eval(), some.to(policy.device)) for some in inputs.split(ROWS)]
    policy.train(training)
    before = {name: torch.cat([part.before[name] for part in parts]) for name in parts[0].before}
    after = {name: torch.cat([part.after[name] for part in parts]) for name in parts[0].after}
    return Embedded(before, after, torch.cat([part.fused for part in parts]))


def _part(policy: Policy, inputs: Inputs) -> Embedded:
    groups = policy.encode(inputs)
    tokens = policy.fusion(groups).tokens
    before = {name: masked_mean(group).cpu() for name, group in groups.items() if group_modality(name) == name}
    own, after = [group_modality(name) for name in policy.fusion.shape.modalities], {}
    for name in dict.fromkeys(own):
        places = [i for i, modality in enumerate(own) if modality == name]
        after[name] = masked_mean(Tokens(tokens.data[:, places], tokens.mask[:, places])).cpu()
    return Embedded(before, after, tokens.cleaned().flatten(1).cpu())


def _cameras(by_modality: dict[str, T]) -> dict[str, T]:
    return {name: x for name, x in by_modality.items() if is_camera(name)}


def _pair(camera: Tensor, words: Tensor) -> Numbers:
    """What can be said of two spaces, whether they are one or not."""
    ranks = {"effective_rank": _rank(camera), "effective_rank_words": _rank(words)}
    return {"cka": linear_cka(camera, words, debiased=True), **ranks}


def _rank(x: Float[Tensor, "n d"]) -> float:
    """Around the mean; 0 where all rows are the same but for rounding."""
    centred = x - x.mean(dim=0)
    return effective_rank(centred) if centred.abs().max() > 1e-6 * x.abs().max() else 0.0


def _shared(camera: Tensor, words: Tensor, told: list[str]) -> Numbers:
    """What can be said of two modalities in one space; nothing where one has rows of zeros, which point nowhere."""
    if not (camera.any(dim=1).all() and words.any(dim=1).all()):
        return {}
    chance = sum(number**2 for number in Counter(told).values()) / len(told) ** 2
    found = compute_alignment_metrics(camera, words, groups=told) | measure_modality_gap(camera, words)
    return found | {"retrieval_chance": chance, "retrieval_texts": len(set(told))}


def _probes(found: Embedded, labels: list[str], truth: Truth | None) -> Probes:
    """What each embedding tells of what is named: which it is and, where the simulator knows that, its place."""
    embeddings = {
        BEFORE: {name: x for name, x in found.before.items() if is_camera(name) or name == INSTRUCTION},
        AFTER: _cameras(found.after) | {WHOLE: found.fused},
    }
    probes = {when: {name: probe_label(x, labels) for name, x in some.items()} for when, some in embeddings.items()}
    if truth is not None:
        places, shown = _places(truth)
        if shown.sum() >= 4:
            for when, some in embeddings.items():
                for name, x in some.items():
                    probes[when][name]["place_r2"] = probe_place(x[shown], places[shown])
    return probes


def _places(truth: Truth) -> tuple[Float[Tensor, "n 2"], Tensor]:
    """Where the first camera's picture shows the middle of the named object, and in which scenes it shows it."""
    mask = next(iter(truth.named.values())).float()
    area = mask.sum(dim=(1, 2)).clamp(min=1)
    down = torch.einsum("nhw,h->n", mask, torch.linspace(0, 1, mask.shape[1])) / area
    across = torch.einsum("nhw,w->n", mask, torch.linspace(0, 1, mask.shape[2])) / area
    return torch.stack([across, down], dim=1), mask.flatten(1).any(dim=1)


def judge(numbers: Numbers) -> tuple[str, Tone]:
    """Good where what pictures tell of the thing named grows in the fusion, and they tell where it is: any fusion, even
    an untrained one, mixes words into the tokens of pictures, but only one that has learned finds their object there.
    Nothing is said where the scenes leave no room for that.
    """
    probes, label = numbers["probes"], numbers["label"]
    after = _cameras(probes[AFTER]) or probes[AFTER]
    blind = max(_cameras(probes[BEFORE]).values(), key=lambda probe: probe["correct"])
    name, told = max(after.items(), key=lambda item: item[1]["correct"])
    reached = told["correct_ci95"][0] > blind["correct_ci95"][1]
    if blind["chance"] == 100:
        return f"Nothing can be told: the same {label} is named in all scenes.", "plain"
    if not reached and blind["correct"] > TELLING:
        alone = f"pictures alone tell which {label} is named in {blind['correct']:.0f} % of the scenes"
        return f"Whether words reach the pictures cannot be seen here: before the fusion, {alone}.", "plain"
    which = (
        f"{_tokens(name)} tell which {label} is named in {told['correct']:.0f} % of the scenes; before it, pictures "
        f"tell it in {blind['correct']:.0f} %."
    )
    reach = f"Words {'reach' if reached else 'do not reach'} the pictures"
    if "place_r2" not in told:
        return f"{reach}: after the fusion, {which}", "plain" if reached else "bad"
    # The place is that in one camera's picture: the tokens that tell it need not be those that best tell the object.
    finder, place = max(((name, probe["place_r2"]) for name, probe in after.items()), key=lambda item: item[1])
    where = (
        f"{_tokens(finder)} tell {100 * max(0.0, place):.0f} % of where it is; 0 % is what an untrained policy tells."
    )
    where = where[0].upper() + where[1:]
    if reached and place >= FOUND:
        reach = "Words find their object in the pictures"
    elif reached:
        reach += " and begin to find their object there" if place > 0 else " but do not find their object there"
    tone = "bad" if not reached or place <= 0 else "good" if place >= FOUND else "plain"
    return f"{reach}: after the fusion, {which} {where}", tone


def _titled(name: str, when: str) -> str:
    """``the front camera, before the fusion``."""
    return name if name == WHOLE else f"{spoken(name)}, {when} the fusion"


def _tokens(name: str) -> str:
    """``images.front`` -> ``the tokens of the front camera``."""
    return "its fused tokens" if name == WHOLE else f"the tokens of {spoken(name)}"


def _shown_probes(numbers: Numbers) -> list[str]:
    label, bars = numbers["label"], []
    probes = [(when, name, probe) for when, some in numbers["probes"].items() for name, probe in some.items()]
    for when, name, probe in probes:
        note = f"chance is {probe['chance']:.0f} %; n\u00a0=\u00a0{probe['n']}"
        note += f"; of its place, {100 * max(0.0, probe['place_r2']):.0f} %" if "place_r2" in probe else ""
        tone = "good" if when == AFTER and name != WHOLE else "plain"
        low, high = probe["correct_ci95"]
        bars.append(page.Interval(_titled(name, when), probe["correct"], low, high, note, tone))
    text = (
        f"Can a linear model tell from an embedding which {label} is named, in scenes that it was not fitted on? "
        "Where a scene has several that could be, pictures alone cannot."
    )
    if any("place_r2" in probe for _, _, probe in probes):
        text += (
            " “Of its place” is how much of the variance of the named object's place in the first camera's picture "
            "such a model explains; words alone cannot tell it, nor can pictures."
        )
    caption = (
        f"Share of scenes in which a linear model tells which {label} is named; the thin line is the 95 % interval"
    )
    return [page.prose(text), page.intervals(caption, bars)]


def _shown_metrics(numbers: Numbers) -> list[str]:
    header = (
        "camera and words",
        "CKA",
        "effective rank",
        "… of words",
        "gap",
        "gap / spread",
        "cosine of pairs",
        "of all",
    )
    rows = [
        (f"{camera_name(name)}, {when}", *(f"{pair[key]:.2f}" if key in pair else "–" for key in SHOWN))
        for when in (BEFORE, AFTER)
        for name, pair in numbers[when].items()
    ]
    text = (
        "CKA is 1 where both see the same likenesses between scenes, and about 0 where they share none. The effective "
        "rank is the number of directions that the embeddings take. Gap and cosines need one space, which there is "
        "only after the fusion: the gap is the distance of both centres, 0 to 2; the cosine of pairs, a picture and "
        "its own words, is above that of all combinations where pairs are close."
    )
    table = page.table("Pictures against words, before and after the fusion", header, rows)
    return [*_gap(numbers), page.prose(text), table, *_retrieval(numbers)]


def _retrieval(numbers: Numbers) -> list[str]:
    """Folded: what is usual of models that are trained to align, which no imitation is."""
    pairs = {name: pair for name, pair in numbers[AFTER].items() if SPREAD[0] in pair}
    if not pairs:
        return []
    first, scenes = next(iter(pairs.values())), numbers["scenes"]
    found = (
        "R@1, R@5 and R@10 are the share of pictures of which the 1, 5 or 10 closest words, by cosine, have their own "
        "among them, and the same from words to pictures: more is better, and of R@1 chance is "
        f"{100 * first['retrieval_chance']:.1f} %. The median rank is the median place of the first right one: 1 is "
        f"best. Pictures look for one of {first['retrieval_texts']} different instructions, words for one of {scenes} "
        "pictures."
    )
    spread = (
        "Alignment is the mean squared distance of a picture and its words, at unit length: 0 is best, 4 is opposite. "
        "Uniformity is 0 where all embeddings of a modality are the same, and the lower, to about -4, the more evenly "
        "they cover the sphere."
    )
    ranks = [
        (
            f"{camera_name(name)}, {what}",
            *(f"{100 * pair[f'{way}_{k}']:.1f} %" for k in RANKS),
            f"{pair[f'{way}_median_rank']:g}",
        )
        for name, pair in pairs.items()
        for way, what in WAYS.items()
    ]
    spreads = [(camera_name(name), *(f"{pair[key]:.2f}" for key in SPREAD)) for name, pair in pairs.items()]
    header = ("camera", "R@1", "R@5", "R@10", "median rank")
    shown = page.prose(f"{found} No imitation is trained for that, and the verdict does not rest on it.")
    shown += page.table("Retrieval after the fusion", header, ranks) + page.prose(spread)
    header = ("camera", "alignment", "uniformity of pictures", "of words")
    shown += page.table("Alignment and uniformity after the fusion", header, spreads)
    return [page.folded("More of it: retrieval, alignment, uniformity", shown)]


def _gap(numbers: Numbers) -> list[str]:
    key = "gap_to_variance_ratio"
    ratios = {name: pair[key] for name, pair in numbers[AFTER].items() if key in pair}
    if not ratios:
        return []
    told = listed([f"{ratio:.1f} times for {spoken(name)}" for name, ratio in ratios.items()])
    text = (
        f"After the fusion, the centres of pictures and words are apart by so many times their own spread: {told}. "
        "Above 1 they lie apart, below it they overlap; the verdict does not rest on it."
    )
    return [page.prose(text)]


def _maps(found: Embedded, labels: list[str]) -> list[str]:
    if not found.after:
        return [page.prose("No map is drawn: no token that this policy's fusion returns is of a single modality.")]
    some = {spoken(name): x[:DRAWN] for name, x in found.after.items() if is_camera(name) or name == INSTRUCTION}
    missing = {name: extra for name, (module, extra) in PROJECTIONS.items() if not find_spec(module)}
    drawn = {name: embedding_map(some, labels[:DRAWN], name) for name in PROJECTIONS if name not in missing}
    caption = "Fused tokens of {} scenes by {}: each modality's, and the same coloured by what is named."
    alt = "Map of embeddings by {}, coloured by modality and by what is named"
    shown = [
        page.picture(webp(figure), alt.format(name), caption.format(min(DRAWN, len(labels)), name))
        for name, figure in drawn.items()
    ]
    ways = [f"No map by {name}: it needs `pip install 'plait[{extra}]'`." for name, extra in missing.items()]
    return shown + list(map(page.prose, ways))
