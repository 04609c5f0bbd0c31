import re
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from plait.config import members
from plait.diagnose import embeddings
from plait.diagnose.embeddings import PROJECTIONS, WHOLE, ask, embed, judge
from plait.diagnose.subject import Subject
from plait.fusion import FilmConfig, Fusion, UnifiedConfig
from plait.nn.pooling import masked_mean
from plait.spec import Spec
from policies import part, random_observation, small_policy
from reach_env import ID, REACH, Reach

ENV = {"family": "pick", "size": 32}


@pytest.mark.parametrize("name", members(Fusion))
def test_each_fused_token_is_of_the_modality_that_the_fusion_says(name: str) -> None:
    policy = small_policy(fusion=part("fusion", name))
    shape, inputs = policy.fusion.shape, policy.prepare(random_observation(40))
    assert len(shape.modalities) == shape.n
    found = embed(policy, inputs)
    assert set(found.before) == set(found.after) == set(policy.spec.modalities)
    assert found.fused.shape == (40, shape.n * shape.dim)
    assert all(x.shape == (40, shape.dim) for x in found.after.values())


def test_what_is_embedded_are_the_policys_own_tokens() -> None:
    policy = small_policy(fusion=FilmConfig())
    inputs = policy.prepare(random_observation(5))
    found = embed(policy, inputs)
    torch.testing.assert_close(found.before["instruction"], masked_mean(policy.encode(inputs)["instruction"]))
    torch.testing.assert_close(found.after["images.wrist"], policy.fuse(inputs).tokens.data[:, 1])


def numbers(
    before: tuple[float, float], after: tuple[float, float], gap: float | None, chance: float = 20.0
) -> dict[str, Any]:
    probe = lambda low, high: {"correct": (low + high) / 2, "correct_ci95": [low, high], "chance": chance}  # noqa: E731
    fused = {} if gap is None else {"images.front": probe(*after)}
    probes = {
        "before": {"images.front": probe(*before), "instruction": probe(98, 100)},
        "after": fused | {WHOLE: probe(99, 100)},
    }
    pairs = {} if gap is None else {"images.front": {"gap_to_variance_ratio": gap}}
    return {"label": "object", "probes": probes, "after": pairs}


def test_words_that_are_mixed_in_without_having_been_learned_are_no_good_news() -> None:
    for place, tone, first in (
        (0.9, "good", "Words find their object in the pictures:"),
        (0.2, "plain", "Words reach the pictures and begin to find their object there:"),
        (-0.1, "bad", "Words reach the pictures but do not find their object there:"),
    ):
        found = numbers((20, 30), (85, 95), 2.8)
        for probe in found["probes"]["after"].values():
            probe["place_r2"] = place
        text, judged = judge(found)
        assert judged == tone
        assert f"The tokens of the front camera tell {max(0, round(100 * place))} % of where it is" in text
        assert text.startswith(first), "the tone rests on the first sentence"


def test_the_camera_that_tells_the_place_is_named_where_another_one_tells_the_object() -> None:
    """The place is that in the front picture, so that the wrist's tokens need not tell it."""
    found = numbers((20, 30), (83, 92), 2.8)
    found["probes"]["after"]["images.front"]["place_r2"] = 0.92
    found["probes"]["after"]["images.wrist"] = {"correct": 92.5, "correct_ci95": [88, 95], "place_r2": 0.24}
    text, tone = judge(found)
    assert "after the fusion, the tokens of the wrist camera tell which object is named in 92 %" in text
    assert "The tokens of the front camera tell 92 % of where it is" in text and "24 %" not in text
    assert tone == "good" and "apart" not in text


def test_the_gap_is_told_of_each_camera_and_not_in_the_verdict() -> None:
    (text,) = embeddings._gap({"after": {name: {"gap_to_variance_ratio": 2.6} for name in ("images.a", "images.b")}})
    assert "2.6 times for the a camera and 2.6 times for the b camera" in text
    assert embeddings._gap({"after": {}}) == []


@pytest.mark.parametrize(
    ("found", "said", "tone"),
    [
        (numbers((20, 30), (85, 95), 2.8), "Words reach the pictures", "plain"),
        (numbers((20, 30), (28, 40), 0.4), "Words do not reach the pictures", "bad"),
        (numbers((97, 100), (98, 100), 1.0), "cannot be seen here: before the fusion, pictures alone tell", "plain"),
        (numbers((99, 100), (99, 100), 1.0, chance=100.0), "the same object is named in all scenes", "plain"),
        (numbers((20, 30), (0, 0), None), "its fused tokens tell which object is named in 100 %", "plain"),
    ],
)
def test_the_verdict_is_that_of_the_numbers(found, said, tone) -> None:
    text, judged = judge(found)
    assert said in text and judged == tone


def test_a_policy_on_the_tabletop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SCENES", 60)
    answer = ask(Subject(small_policy(fusion=FilmConfig()), "tabletop", ENV))
    page = "".join(answer.parts)
    drawn = [name for name, (module, _) in PROJECTIONS.items() if find_spec(module)]
    assert "t-SNE" in drawn and page.count("data:image/webp") == len(drawn)
    assert all(f"Fused tokens of 60 scenes by {name}:" in page for name in drawn)
    words = answer.numbers["probes"]["before"]["instruction"]
    assert words["correct"] > 2 * words["chance"], "words tell which object is named"
    assert words["place_r2"] < 0.3, "but not where it is"
    assert answer.numbers["after"]["images.wrist"]["modality_gap"] > 0
    assert "modality_gap" not in answer.numbers["before"]["images.wrist"], "no common space before the fusion"


def test_a_map_that_cannot_be_drawn_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SCENES", 8)
    monkeypatch.setattr(embeddings, "find_spec", lambda module: None if module == "umap" else find_spec(module))
    page = "".join(ask(Subject(small_policy(fusion=FilmConfig()), "tabletop", ENV)).parts)
    assert "No map by UMAP: it needs <code>pip install 'plait[umap]'</code>." in page and "No map by t-SNE" not in page


def test_tokens_of_no_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "SCENES", 8)
    answer = ask(Subject(small_policy(fusion=UnifiedConfig(actions=8)), "tabletop", ENV))
    assert answer.numbers["after"] == {} and "No map is drawn" in "".join(answer.parts)


def test_scenes_without_words_have_a_name_in_the_map(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    reset = Reach.reset
    mute = lambda self, *, seed=None, options=None: reset(self, seed=seed, options={"instruction": "absent"})  # noqa: E731
    monkeypatch.setattr(Reach, "reset", mute)
    monkeypatch.setattr(embeddings, "SCENES", 40)
    answer = ask(Subject(small_policy(spec=REACH, image_size=16), ID, {}))
    assert answer.verdict == "Nothing can be told: the same instruction is named in all scenes."
    assert not [warning for warning in recwarn.list if "legend" in str(warning.message)]


def test_a_policy_without_a_camera_has_nothing_to_align() -> None:
    policy = small_policy(spec=Spec(cameras={}, state=("x",), actions=("x",)))
    assert "no camera" in ask(Subject(policy, "tabletop", ENV)).verdict


def test_tokens_of_zeros_are_no_error() -> None:
    words = torch.eye(4)
    pair = embeddings._pair(torch.zeros(4, 4), words) | embeddings._shared(torch.zeros(4, 4), words, list("abcd"))
    assert "cka" in pair and "gap_to_variance_ratio" not in pair
    shown = "".join(embeddings._shown_metrics({"before": {}, "after": {"images.front": pair}}))
    assert shown.count("<table") == 1 and "R@1" not in shown


def test_retrieval_alignment_and_uniformity_are_shown_and_explained() -> None:
    words = torch.eye(8)
    told = list("aabbccdd")
    pair = embeddings._pair(words, words) | embeddings._shared(words.roll(1, dims=0), words, told)
    (shown,) = embeddings._retrieval({"scenes": 8, "after": {"images.front": pair}})
    assert pair["retrieval_chance"] == 0.25 and "of R@1 chance is 25.0\u00a0%" in shown
    cells = re.findall(r">([^<>]+)</t[hd]>", shown)
    assert cells[5:10] == ["front, from pictures to words", "50.0\u00a0%", "100.0\u00a0%", "100.0\u00a0%", "2"]
    assert cells[10:15] == ["front, from words to pictures", "50.0\u00a0%", "100.0\u00a0%", "100.0\u00a0%", "2.75"]
    assert "one of 4 different instructions, words for one of 8 pictures" in shown
    assert cells[-4:] == ["front", "2.00", "-4.00", "-4.00"]
    assert shown.startswith("<details>") and all(f"{what} is" in shown for what in ("Alignment", "Uniformity"))
