from collections import Counter

import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from plait.envs.metaworld.tasks import GROUPS, INSTRUCTIONS, TIER, chosen


def test_the_tasks_are_those_of_the_package_in_four_tiers():
    assert set(INSTRUCTIONS) == set(TIER) == set(ALL_V3_ENVIRONMENTS)
    assert Counter(TIER.values()) == {"easy": 28, "medium": 11, "hard": 6, "very_hard": 5}
    assert {group: len(tasks) for group, tasks in GROUPS.items()} == {"mt50": 50, **Counter(TIER.values())}


def test_only_push_and_push_back_share_a_sentence():
    counts = Counter(INSTRUCTIONS.values())
    assert len(counts) == 49
    assert [task for task in INSTRUCTIONS if counts[INSTRUCTIONS[task]] > 1] == ["push-back-v3", "push-v3"]


def test_tasks_are_chosen_by_name_or_group():
    assert chosen("assembly") == chosen("assembly-v3") == ("assembly-v3",)
    assert chosen("very_hard") == GROUPS["very_hard"]
    assert chosen(["reach", "hard", "push-v3"]) == ("reach-v3", *GROUPS["hard"])  # each once


@pytest.mark.parametrize(("task", "message"), [("asembly", "Did you mean 'assembly-v3'"), ([], "none is named")])
def test_other_names_are_refused(task, message):
    with pytest.raises(ValueError, match=message):
        chosen(task)
