import pytest

from plait.diagnose import attention
from plait.diagnose.attention import ask, judge
from plait.diagnose.heatmaps import heatmaps
from plait.diagnose.subject import Subject
from plait.fusion import BottleneckConfig, CrossAttentionConfig, FilmConfig
from plait.spec import Spec
from policies import random_observation, small_policy
from reach_env import ID, REACH

ENV = {"family": "pick", "size": 32}


def score(hit: float, distracted: float, gain: tuple[float, float], others: tuple[float, float]) -> dict[str, object]:
    shares = {"hit": hit, "distracted": distracted, "chance": 1.0, "chance_distracted": 3.0}
    intervals = {f"{name}_ci95": [shares[name] - 5, shares[name] + 5] for name in ("hit", "distracted")}
    return {"n": 9, **shares, **intervals, "gain_ci95": list(gain), "gain_distractors_ci95": list(others)}


def masking(low: float, high: float) -> dict[str, object]:
    return {"ratio": (low + high) / 2, "ratio_ci95": [low, high], "top": 0.5}


@pytest.mark.parametrize(
    ("mask", "pointing", "said", "tone"),
    [
        (masking(3, 5), score(88, 2, (20, 25), (1, 2)), "4.0 times as much as hidden anywhere", "good"),
        (
            masking(3, 5),
            score(88, 2, (20, 25), (1, 2)),
            "on the named object in 88 % of the scenes, on another one in 2 % (front; chance",
            "good",
        ),
        (
            masking(3, 5),
            score(22, 40, (2.6, 3), (1.9, 2)),
            "on another one in 40 % (front; chance: 1 and 3 %)",
            "plain",
        ),
        (masking(3, 5), score(2, 9, (1.5, 3), (1, 2)), "not clearly denser on the named object", "plain"),
        (masking(3, 5), score(60, 9, (0.5, 0.9), (0.1, 0.2)), "not clearly denser on the named object", "plain"),
        (masking(0.9, 1.3), score(88, 2, (20, 25), (1, 2)), "do not show what it acts on", "bad"),
        (masking(0.5, 0.9), {"n": 0}, "do not show what it acts on", "bad"),
        (masking(3, 5), {"n": 0}, "the picture counts", "plain"),
        (masking(3, 5) | {"top": 1e-7}, {"n": 0}, "The pictures hardly matter: hidden where", "bad"),
        (masking(3, 5) | {"top": 1e-7}, score(88, 2, (20, 25), (1, 2)), "changes by 0.000 standard", "bad"),
    ],
)
def test_the_verdict_is_that_of_the_numbers(mask, pointing, said, tone) -> None:
    text, judged = judge({"masking": mask, "pointing": {"front": pointing}})
    assert said in text and judged == tone


def test_a_policy_on_the_tabletop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "FILMS", 1)
    policy = small_policy(fusion=CrossAttentionConfig(dim=32, layers=1))
    answer = ask(Subject(policy, "tabletop", ENV, episodes=6))
    assert answer.numbers["method"] == "attention" and answer.numbers["scenes"] == 6
    assert {"front", "wrist"} == answer.numbers["pointing"].keys()
    page = "".join(answer.parts)
    assert page.count("data:image/webp") == 2, "a film and its still"
    assert "attention weights" in page and "front: on the named object" in page
    assert "Integrated gradients of the same policy: hidden where they are high, the action changes" in page
    assert answer.numbers["gradients"]["masking"] != answer.numbers["masking"]
    assert answer.tone != "good", "it is not trained"


def test_an_environment_that_knows_no_truth() -> None:
    policy = small_policy(spec=REACH, image_size=16)
    answer = ask(Subject(policy, ID, {}, episodes=4))
    assert "pointing" not in answer.numbers and "has no attention" in "".join(answer.parts)
    assert "gradients" not in answer.numbers, "they are the maps"


@pytest.mark.parametrize(
    ("fusion", "said"),
    [
        (CrossAttentionConfig(dim=32, layers=1), "The maps, one for each word, come from the attention"),
        (BottleneckConfig(), "They are of the instruction as a whole: this policy's fusion pools the words"),
        (FilmConfig(), "integrated gradients, of the instruction as a whole and not of each word"),
    ],
)
def test_it_says_whether_there_is_a_map_for_each_word(fusion, said) -> None:
    policy = small_policy(fusion=fusion)
    found = heatmaps(policy, policy.prepare(random_observation(2)))
    assert said in attention.METHODS[attention._kind(found)]


def test_a_policy_without_a_camera_looks_nowhere() -> None:
    policy = small_policy(spec=Spec(cameras={}, state=("x",), actions=("x",)))
    assert "no camera" in ask(Subject(policy, "tabletop", ENV)).verdict
