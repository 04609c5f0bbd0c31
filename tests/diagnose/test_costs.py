import pytest

from plait.diagnose import costs
from plait.diagnose.cost import Cost
from plait.diagnose.subject import Subject
from plait.memory import RecurrentConfig
from policies import small_policy
from reach_env import ID, REACH


@pytest.fixture(scope="module")
def answer(request):
    patch = pytest.MonkeyPatch()
    patch.setattr("plait.diagnose.cost.MOST", 20)
    request.addfinalizer(patch.undo)
    policy = small_policy(spec=REACH, image_size=16, memory=RecurrentConfig(steps=3))
    return costs.ask(Subject(policy, ID, {})), policy


def test_every_part_is_there_and_together_they_are_the_whole(answer):
    numbers, policy = answer[0].numbers, answer[1]
    assert list(numbers["parts"]) == [
        *("encoder of the top camera", "encoder of the state", "encoder of the words", "fusion", "memory", "head"),
        "preparation (resizing, words to numbers)",
    ]
    absent = sum(parameter.numel() for parameter in policy.encoder.absent.values())
    parts = sum(part["parameters"] for part in numbers["parts"].values())
    assert parts + absent + numbers["training_only_parameters"] == numbers["whole"]["parameters"]
    assert sum(part["flops"] for part in numbers["parts"].values()) == numbers["whole"]["flops"]
    assert numbers["available_ms"] == 1000 * policy.config.execute / REACH.rate
    assert "encoder of the top camera" in answer[0].parts[1]
    counted = [part["flops"] for name, part in numbers["parts"].items() if not name.startswith("preparation")]
    assert all(counted) and "MFLOPs" in answer[0].parts[1]
    assert all(f"{number / 1e6:.3f}" in answer[0].parts[1] for number in counted)


def test_the_whole_begins_with_the_pictures_and_the_words(monkeypatch):
    """A robot waits for their preparation too, as slow as it may be."""
    policy, prepared = small_policy(spec=REACH, image_size=16), []
    prepare = policy.prepare

    def noted(observation):
        prepared.append(True)
        return prepare(observation)

    def measured(module, call, device, seconds=0.0):
        before = len(prepared)
        call()
        called.append((module, len(prepared) - before))
        return Cost(1, 1, 1.0, 1.0, 1)

    called = []
    monkeypatch.setattr(policy, "prepare", noted)
    monkeypatch.setattr(costs, "measure", measured)
    costs.ask(Subject(policy, ID, {}))
    assert [times for module, times in called if module is policy] == [1], "in each call of the whole"
    assert sum(times for _, times in called) == 2, "and in its own row"


@pytest.mark.parametrize(
    ("p99_ms", "due", "tone", "begins"),
    [
        (3.0, 10.0, "good", "It has 1.62 million parameters and"),
        (30.0, 10.0, "plain", "It is fast enough for its robot most of the time, but not always"),
        (30.0, 2.0, "bad", "It is too slow for its robot"),
        (3.0, None, "plain", "It has 1.62 million parameters and"),
    ],
)
def test_it_has_to_decide_before_the_next_decision_is_due(p99_ms, due, tone, begins):
    whole, part = Cost(1_620_000, 5, 2.04, p99_ms, 9), Cost(1, 1, 1.0, 1.0, 1)
    text, found = costs.judge(whole, {"fusion": part, "head": Cost(1, 1, 0.5, 1.0, 1)}, due, "CPU")
    assert found == tone and text.startswith(begins)
    assert f"decides in 2.0 ms on CPU (99th percentile: {p99_ms})" in text
    assert text.endswith("Of its parts, the fusion takes longest.")
    assert (f"of the {due or 0:.0f} ms until it has to decide anew" in text) == (due is not None)
