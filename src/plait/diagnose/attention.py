"""Where does it look? Maps over the pictures, whether they matter to the action, and whether they are on the object."""

import io
from typing import Any

import torch

from plait.diagnose import page
from plait.diagnose.heatmaps import ATTENTION, GRADIENTS, Heatmaps, heatmaps
from plait.diagnose.masking import SHARE, masking
from plait.diagnose.pointing import pointing
from plait.diagnose.scenes import Views, views
from plait.diagnose.subject import Answer, Subject, Tone
from plait.diagnose.watching import Film, watch
from plait.evaluate.protocol import evaluation_seed
from plait.evaluate.worker import Scenes
from plait.policy import Policy
from plait.types import Inputs

QUESTION = "Where does it look?"
SCENES = 100  # at most
LEAST = 0.01  # standard deviations of the training actions; what moves them by less hardly matters
FILMS = 2  # of the first scenes, whatever comes of them
POOLED = "attention of pooled words"
METHODS = {
    ATTENTION: "The maps, one for each word, come from the attention weights that the policy used, averaged over "
    "layers and heads: bright is a patch that looks at the word more than the average patch does. All words of a "
    "moment have one scale",
    POOLED: "The maps come from the attention weights that the policy used, averaged over layers and heads: bright is "
    "a patch that is looked at more than the average patch. They are of the instruction as a whole: this policy's "
    "fusion pools the words before they meet the pictures, so that no word has a map of its own",
    GRADIENTS: "This policy's fusion has no attention between patches and words. The maps are integrated gradients, of "
    "the instruction as a whole and not of each word: they show on which parts of the pictures that share of the "
    "action rests which is there because of the words",
}
Numbers = dict[str, Any]


def ask(subject: Subject) -> Answer:
    """Maps of the first moment of the subject's scenes, and films of the first ``FILMS`` episodes."""
    policy = subject.policy
    if not policy.spec.cameras:
        return Answer(QUESTION, "Nowhere: this policy has no camera.", "plain", {})
    seen = views(subject, min(SCENES, subject.episodes))
    inputs = policy.prepare(seen.observation)
    found = heatmaps(policy, inputs)
    numbers: Numbers = {"method": found.method, "scenes": len(seen.observation)}
    numbers |= _scores(policy, inputs, found, seen)
    if found.method == ATTENTION:
        numbers["gradients"] = _scores(policy, inputs, heatmaps(policy, inputs, attention=False), seen)
    verdict, tone = judge(numbers)
    parts = [page.prose(f"{METHODS[_kind(found)]}."), *_pointing(numbers), page.prose(_masking(numbers))]
    parts += [page.prose(_compared(numbers["gradients"]))] if "gradients" in numbers else []
    parts.append(page.gallery(map(_animation, _films(subject)), wide=True))
    return Answer(QUESTION, verdict, tone, numbers, tuple(parts))


def _scores(policy: Policy, inputs: Inputs, found: Heatmaps, seen: Views) -> Numbers:
    scores: Numbers = {"masking": masking(policy, inputs, found.whole())}
    return scores if seen.truth is None else scores | {"pointing": pointing(found.whole(), seen.truth)}


def _kind(found: Heatmaps) -> str:
    return POOLED if found.method == ATTENTION and found.words.shape[1] == 1 else found.method


def judge(numbers: Numbers) -> tuple[str, Tone]:
    """The verdict and its tone: good where the maps matter and, for every camera, are on the named object above all."""
    mask, cameras = numbers["masking"], numbers.get("pointing", {})
    low, high = mask["ratio_ci95"]
    seen, matters = mask["top"] >= LEAST, low > 1
    if not seen:
        text = (
            f"The pictures hardly matter: hidden where its maps are high, the action changes by {mask['top']:.3f} "
            "standard deviations of the training actions."
        )
    elif matters:
        text = (
            f"Where its maps are high, the picture counts: hidden there, the action changes {mask['ratio']:.1f} times "
            f"as much as hidden anywhere (95 % interval: {low:.1f} to {high:.1f})."
        )
    else:
        text = (
            f"Its maps do not show what it acts on: hiding the picture where they are high changes the action "
            f"{mask['ratio']:.2f} times as much as hiding it anywhere (95 % interval: {low:.2f} to {high:.2f})."
        )
    shown = {camera: score for camera, score in cameras.items() if score["n"]}
    if not shown:
        return text, "plain" if seen and matters else "bad"
    places = "; in ".join(
        f"{score['hit']:.0f} % of the scenes, on another one in {score['distracted']:.0f} % ({camera}; chance: "
        f"{score['chance']:.0f} and {score['chance_distracted']:.0f} %)"
        for camera, score in shown.items()
    )
    denser = all(score["gain_ci95"][0] > max(1, score["gain_distractors_ci95"][1]) for score in shown.values())
    highest = all(score["hit_ci95"][0] > score["distracted_ci95"][1] for score in shown.values())
    text += f" Their maximum lies on the named object in {places}."
    if not denser:
        text += " They are not clearly denser on the named object than on the others."
    return text, "bad" if not (seen and matters) else "good" if denser and highest else "plain"


def _pointing(numbers: Numbers) -> list[str]:
    shown = {camera: score for camera, score in numbers.get("pointing", {}).items() if score["n"]}
    if not shown:
        return []
    bars = [bar for camera, score in shown.items() for bar in _bars(camera, score)]
    rows = [
        (camera, *(_times(score, gain) for gain in ("gain", "gain_distractors"))) for camera, score in shown.items()
    ]
    header = ("camera", "the named object", "the other objects")
    return [
        page.intervals("Where the maximum of the map lies, share of scenes; the thin line is the 95 % interval", bars),
        page.table("How dense the map is there; an even map has 1, with 95 % interval", header, rows),
    ]


def _bars(camera: str, score: Numbers) -> list[page.Interval]:
    bars = []
    for what, hit, chance, tone in (
        ("on the named object", "hit", "chance", "good"),
        ("on another object", "distracted", "chance_distracted", "bad"),
    ):
        low, high = score[f"{hit}_ci95"]
        note = f"chance is {score[chance]:.1f} %; n\u00a0=\u00a0{score['n']}"
        bars.append(page.Interval(f"{camera}: {what}", score[hit], low, high, note, tone))
    return bars


def _times(score: Numbers, gain: str) -> str:
    low, high = score[f"{gain}_ci95"]
    return f"{score[gain]:.1f} ({low:.1f}–{high:.1f})"


def _masking(numbers: Numbers) -> str:
    mask = numbers["masking"]
    return (
        f"Checked by hiding: with the highest {100 * SHARE:.0f} % of each camera's patches under the picture's mean "
        f"colour, the predicted actions move by {mask['top']:.3f} standard deviations of the training actions; with as "
        f"many patches at random, by {mask['random']:.3f}."
    )


def _compared(numbers: Numbers) -> str:
    """What integrated gradients say of a policy whose maps are attention."""
    text = (
        "Attention is where the policy looks, which need not be what it acts on. Integrated gradients of the same "
        f"policy: hidden where they are high, the action changes {_times(numbers['masking'], 'ratio')} times as much "
        "as hidden anywhere"
    )
    shown = [(camera, score) for camera, score in numbers.get("pointing", {}).items() if score["n"]]
    dense = "; ".join(
        f"{_times(score, 'gain')} on the named object and {_times(score, 'gain_distractors')} on the others ({camera})"
        for camera, score in shown
    )
    return f"{text}; how dense they are: {dense}." if dense else f"{text}."


def _films(subject: Subject) -> list[Film]:
    seeds = tuple(evaluation_seed(subject.seed, i) for i in range(FILMS))
    scenes = Scenes(subject.env, seeds, subject.env_args)
    with torch.random.fork_rng():
        return [watch(subject.policy, scenes, episode) for episode in range(FILMS)]


def _animation(film: Film) -> page.Animation:
    moving, still = io.BytesIO(), io.BytesIO()
    pause = [200] * (len(film.frames) - 1) + [1500]  # ms; slower than it was, and a rest on the outcome
    film.frames[0].save(
        moving, "webp", save_all=True, append_images=film.frames[1:], duration=pause, loop=0, quality=60
    )
    film.frames[0].save(still, "webp", quality=60)
    alt = f"A rollout told “{film.instruction}”, and where the policy looks at each prediction."
    return page.Animation(moving.getvalue(), still.getvalue(), alt, f"“{film.instruction}”", film.success)
