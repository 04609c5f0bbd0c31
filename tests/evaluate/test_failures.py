"""Failures in closed loop: what is injected, what is counted, and what the envelope changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from plait import checkpoint, envs
from plait.cli import main
from plait.evaluate.failure_table import summary
from plait.evaluate.failures import (
    DURATIONS,
    MOMENTS,
    PARTIAL,
    Case,
    Failure,
    Pool,
    _box,
    broken,
    evaluate_failures,
    failures,
)
from plait.safety.calibration import Calibration
from plait.safety.health import Known
from plait.types import Observation
from policies import SPEC, small_policy
from reach_env import ID, REACH

TABLETOP = envs.make("tabletop").unwrapped.embodiment
BOTH = "images.front+images.wrist"
KINDS = [
    Failure("black", "images.front"),
    Failure("frozen", BOTH),
    Failure("late", BOTH),
    Failure("nan", "state"),
    Failure("lost", "instruction"),
    Failure("too_long", "instruction"),
]


def to_and_fro(inputs):
    """Towards the middle and beyond it, faster than is allowed."""
    way = torch.where(inputs.state[:, 0] > 0, -1.5, 1.5)
    return way[:, None, None] * torch.tensor([1.0, 0, 0, 0, 0, 0, 0]).expand(len(way), 8, 7)


@pytest.fixture(scope="module")
def policy():
    policy = small_policy(spec=TABLETOP)
    policy.predict = to_and_fro
    return policy


@pytest.fixture(scope="module")
def result(policy, tmp_path_factory):
    out = tmp_path_factory.mktemp("failures")
    calibration = Calibration(Known((-0.27,) * 8, (0.27,) * 8))
    result = evaluate_failures(
        policy, "tabletop", calibration=calibration, chosen=KINDS, episodes=3, slots=30, out=out, quiet=True
    )
    assert json.loads((out / "failures.json").read_text()) == json.loads(json.dumps(result))
    return result


def of(result, kind, enveloped):
    (row,) = [row for row in result["failures"] if (row["kind"], row["envelope"]) == (kind, enveloped)]
    return row


def test_every_failure_is_played_in_the_same_scenes_with_and_without_envelope(result):
    assert len(result["failures"]) == 2 * (1 + len(KINDS))
    assert len(result["per_episode"]) == 3 * 2 * (1 + len(KINDS))
    assert {row["scene"] for row in result["per_episode"]} == {0, 1, 2}
    assert result["protocol"]["execute"] == 4
    assert all(row["n_episodes"] == 3 for row in result["failures"])


def test_clean_runs_raise_no_alarm(result):
    assert [row["alarm"] for row in result["per_episode"] if row["kind"] == "none" and row["envelope"]] == [[]] * 3
    assert of(result, "none", True)["pc_alarm"] == 0
    assert of(result, "none", True)["pc_kept"] is None, "no scene ended in success"


def test_with_the_envelope_no_limit_is_left(result):
    for kind in ("none", *(failure.kind for failure in KINDS)):
        assert (of(result, kind, True)["limits_steps"], of(result, kind, True)["pc_limits"]) == (0, 0)
        assert of(result, kind, False)["pc_limits"] == 100


def test_when_a_failure_is_noticed(result):
    """A frozen picture is told from a scene in which nothing happens at its second repetition."""
    for kind, most in (("black", 1), ("frozen", 3), ("nan", 1), ("lost", 1), ("too_long", 1)):
        assert of(result, kind, True)["notice"] == {"median": most, "most": most}
        assert of(result, kind, False)["notice"] is None
    assert of(result, "late", True)["notice"] == {"median": 1, "most": 3}, "in step 2 of an episode it is 2 steps old"


def test_motion_that_no_camera_sees(result):
    frozen, bare = of(result, "frozen", True), of(result, "frozen", False)
    assert frozen["blind_steps"] == 3 * 1, "one step each, until it is noticed"
    assert bare["blind_steps"] == 3 * (DURATIONS[0] - 1), "the first picture is that of its moment"
    assert of(result, "black", False)["blind_steps"] == 0, "the wrist still sees"
    assert of(result, "late", True)["blind_steps"] == 0
    assert of(result, "late", False)["blind_steps"] == 3 * DURATIONS[0] - 2, "up to 3 steps old is no failure"


def test_a_state_that_is_no_number_is_refused_by_a_bare_policy(result):
    assert of(result, "nan", False)["refused_steps"] == 3 * DURATIONS[0]
    assert of(result, "nan", True)["refused_steps"] == 0


def test_by_moment_and_duration(result):
    row = of(result, "black", True)
    assert {name: group["n_episodes"] for name, group in row["per_begin"].items()} == dict.fromkeys(
        map(str, MOMENTS), 1
    )
    assert {name: group["n_episodes"] for name, group in row["per_duration"].items()} == {"5": 3, "15": 0, "None": 0}


def test_everything_that_can_fail():
    found = failures(TABLETOP)
    assert found[0] == Failure() and len(found) == len(set(found)) == 1 + 3 * 6 + 2 + 3
    assert len(failures(replace(TABLETOP, cameras={"front": (8, 8)}, state=()))) == 1 + 6 + 3


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("black", lambda one, two, old: not one.any()),
        ("white", lambda one, two, old: (one == 255).all()),
        ("frozen", lambda one, two, old: (one == two).all() and (one == old).all()),
        ("noise", lambda one, two, old: (one != two).mean() > 0.9 and (one != old).mean() > 0.9),
    ],
)
def test_what_a_camera_shows(kind, check):
    rng = np.random.default_rng(0)
    case = Case(Failure(kind, "images.front"), False, 0, 0, 9, rng)
    rows = [Observation({c: rng.integers(0, 256, (1, 8, 8, 3), np.uint8) for c in "ab"}, None, ["go"]) for _ in "12"]
    rows = [replace(row, images={"front": row.images["a"], "wrist": row.images["b"]}) for row in rows]
    one, two = (broken(row, case) for row in rows)
    assert check(one.images["front"], two.images["front"], rows[0].images["front"])
    assert (one.images["wrist"] == rows[0].images["wrist"]).all()


def test_what_is_kept_is_a_share_of_what_succeeds_without_failure():
    row = {"kind": "black", "hit": True, "limits": 0, "blind": 0, "refused": 0, "noticed": 1, "alarm": ["black"]}
    rows = [{**row, "scene": i, "success": success} for i, success in enumerate([True, True, False, False])]
    rows += [{**row, "scene": 4, "success": True, "hit": False}]
    told = summary(rows, {0: True, 1: False, 2: True, 3: True, 4: True})
    assert (told["n_episodes"], told["pc_success"], told["pc_kept"]) == (4, 50.0, 33.33)
    assert (told["pc_safe"], told["pc_noticed"], told["pc_alarm"]) == (100, 100, 100)


def test_absolute_actions_are_refused():
    policy = small_policy(spec=replace(TABLETOP, action_kind="absolute", state_units=None, action_units=None))
    with pytest.raises(ValueError, match="failures: what stands still is only known of delta actions"):
        evaluate_failures(policy, "tabletop", episodes=1)


def test_an_interruption_keeps_what_is_finished_and_the_same_call_continues(tmp_path, policy, monkeypatch):
    """Ctrl-C comes twice, a kill cuts a line off; in the end all is as if nothing had been."""
    settings = {"chosen": KINDS[:1], "slots": 4, "workers": 1, "quiet": True}
    whole = evaluate_failures(policy, "tabletop", episodes=2, out=tmp_path / "whole", **settings)
    out, step, ended = tmp_path / "out", Pool.step, []

    def interrupted(pool, actions):
        for episode in step(pool, actions):
            yield episode
            raise KeyboardInterrupt

    def counted(pool, actions):
        ended.extend(episodes := step(pool, actions))
        return episodes

    for done in (1, 2):
        monkeypatch.setattr(Pool, "step", interrupted)
        with pytest.raises(KeyboardInterrupt, match=f"{done} of 8 episodes are finished and the same command contin"):
            evaluate_failures(policy, "tabletop", episodes=2, out=out, **settings)
        with (out / PARTIAL).open("a") as file:
            file.write('{"kind": "bla')
    assert not (out / "failures.json").exists()
    other = r"failures\.partial\.jsonl was made with other settings: seed \(0 then, 1 now\); delete it, or say --out"
    with pytest.raises(ValueError, match=other):
        evaluate_failures(policy, "tabletop", episodes=2, seed=1, out=out, **settings)
    monkeypatch.setattr(Pool, "step", counted)
    assert evaluate_failures(policy, "tabletop", episodes=2, out=out, **settings) == whole
    assert len(ended) == 6 and not (out / PARTIAL).exists()


def test_the_command_prints_a_table(tmp_path, capsys, monkeypatch):
    spec = replace(REACH, action_kind="delta", action_low=(-1.0,), action_high=(1.0,))
    saved = checkpoint.save(small_policy(spec=spec, image_size=16), tmp_path / "c")
    monkeypatch.setattr("plait.evaluate.failures.MOMENTS", (1, 2, 3))
    command = ["eval", str(saved), "--env", ID, "--episodes", "3", "--workers", "1", "--out", str(tmp_path / "out")]
    assert main([*command, "--failures"]) == 0
    shown, told = capsys.readouterr()
    lines = shown.splitlines()
    assert len(lines) == 2 + (1 + 6 + 2 + 3) + 2
    assert lines[2].startswith("nothing") and lines[-2] == f"details: {tmp_path}/out/failures.json"
    assert lines[-1] == f"picture: {tmp_path}/out/failures.png" and (tmp_path / "out/failures.png").stat().st_size
    assert told == (
        "the safety envelope is not calibrated: unusual states, pictures and actions pass unnoticed; "
        f"plait calibrate {saved} DATASET shows it clean ones\n"
    )
    assert main([*command, "--failures", "--blank", "top"]) == 2
    assert "--failures changes the observations itself; leave out --blank" in capsys.readouterr().err


def test_there_is_no_box_where_nobody_knows_how_actions_move_the_state():
    known = Calibration(Known((-1.0,) * len(SPEC.state), (1.0,) * len(SPEC.state)))
    assert SPEC.state_units is None and _box(SPEC, known) == {}
