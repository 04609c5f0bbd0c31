"""The command line: what it shows, what it takes, and one sentence for whatever is wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plait import checkpoint
from plait.cli import main
from plait.cli.parse import pairs, texts
from plait.cli.train import Train
from plait.cli.verbs import VERBS
from plait.config import to_dict
from plait.data.png import encode_png
from plait.fusion import CrossAttentionConfig, FilmConfig, LateConfig
from plait.memory import RecurrentConfig
from plait.recipes import RECIPES
from plait.spec import Spec
from policies import random_observation, small_policy

WHERE = ["--dataset", "d", "--out", "o"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, with a picture beside it."""
    folder = checkpoint.save(small_policy(), tmp_path_factory.mktemp("run") / "checkpoint")
    picture = random_observation(rows=1).images["front"][0].numpy()
    (folder / "a.png").write_bytes(encode_png(picture))
    return folder


def parsed(*arguments: str) -> Train:
    verb = Train.parse(["tabletop-pick", *WHERE, *arguments], "plait train")
    assert isinstance(verb, Train)
    return verb


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    assert main(list(arguments)) == code
    output = capsys.readouterr()
    return output.err if code else output.out


def test_help_names_every_verb_and_loads_neither_torch_nor_parts() -> None:
    script = "import sys; from plait.cli import main; code = main(['--help'])\nprint(code, *sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    overview, modules = result.stdout.rsplit("\n", 2)[:2]
    assert modules.startswith("0 ")
    assert not {"torch", "numpy", "mujoco", "plait.policy", "plait.types"} & set(modules.split())
    help_is_a_word = subprocess.run([sys.executable, "-m", "plait", "help"], capture_output=True, text=True, timeout=60)
    assert help_is_a_word.stdout.strip() == overview.strip()
    for name, verb in VERBS.items():
        assert f"\n  {name} " in overview
        assert (verb.__doc__ or "").splitlines()[0] in overview


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb_shows_options_with_defaults(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, name, "--help", code=0)
    assert shown.startswith(f"usage: plait {name}")
    assert "`" not in shown, "help is no Markdown"
    assert "default: " in shown or "--" not in shown.replace("--help", "")


def test_help_without_a_recipe_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "train", "--help", code=0)
    assert shown.startswith("usage: plait train RECIPE ")
    assert all(f"\n- {name}: {(recipe.__doc__ or '').splitlines()[0]}\n" in shown for name, recipe in RECIPES.items())
    assert "The defaults below are those of tabletop-pick;" in shown


def test_help_of_every_part_is_no_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["--vision", "timm", "--language", "text_transformer", "--fusion", "cross_attention"]
    shown = told(capsys, "train", "tabletop-pick", *parts, "--help", code=0)
    assert "`" not in shown
    assert "the distance to grey" in " ".join(shown.split()) and "NAME=VALUE" not in shown
    assert "--env-args NAME=VALUE" in told(capsys, "record", "--help", code=0)
    assert "--image CAMERA=FILE" in told(capsys, "act", "--help", code=0)


def test_help_of_a_recipe_shows_its_own_values(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "train", "tabletop-cross-attention", "--help", code=0)
    assert "--fusion film|cross_attention" in shown
    assert "--fusion.heads INT" in shown and "--fusion.conditions" not in shown
    assert f"(default: {RECIPES['tabletop-cross-attention']().train.steps})" in " ".join(shown.split())


def test_fields_are_overridden_and_the_rest_is_the_recipe() -> None:
    verb = parsed("--train.steps", "7", "--head.loss=mse", "--fusion.stages", "8", "16", "--train.augment.shift", "0")
    expected = to_dict(RECIPES["tabletop-pick"]())
    expected["train"] |= {"steps": 7, "augment": expected["train"]["augment"] | {"shift": 0}}
    expected["policy"]["head"]["loss"] = "mse"
    expected["policy"]["fusion"]["stages"] = [8, 16]
    assert to_dict(verb.recipe) == expected
    assert (verb.dataset, verb.out, verb.init) == ("d", "o", None)


def test_a_part_is_swapped_by_one_word_and_then_its_fields_are_known() -> None:
    policy = parsed(
        "--fusion.layers", "3", "--fusion", "cross-attention", "--vision=patch", "--keyframe", "none"
    ).recipe.policy
    assert policy.fusion == CrossAttentionConfig(layers=3)
    assert policy.vision == RECIPES["tabletop-pick"]().policy.vision
    assert policy.keyframe is None


def test_a_part_that_is_already_there_keeps_the_values_of_the_recipe() -> None:
    verb = Train.parse(["tabletop", *WHERE, "--fusion", "film"], "plait train")
    assert isinstance(verb, Train)
    assert verb.recipe == RECIPES["tabletop"]() and verb.recipe.policy.fusion != FilmConfig()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("trian", "no command 'trian'; choose one of ['act', 'align', 'calibrate', 'compare', "),
        ("train tabletop-pik", "Did you mean 'tabletop-pick'?"),
        ("train", "no recipe is named; say plait train RECIPE"),
        ("train tabletop-pick --dataset d --out o --fusion crossattention", "Did you mean 'cross_attention'?"),
        ("train tabletop-pick --dataset d --out o --fusion", "--fusion: its value is missing; choose one of film, "),
        (
            "train tabletop-pick --dataset d --out o --fusion.layrs 3 --fusion cross_attention",
            "mean '--fusion.layers'?",
        ),
        ("train tabletop-pick --dataset d --out o --train.stps 3", "Did you mean '--train.steps'?"),
        (
            "train tabletop-pick --dataset d --out o --train.steps x",
            "plait: --train.steps: 'x' is not a whole number. (",
        ),
        ("record tabletop --episodes 1 --out o --pushes x", "plait: --pushes: 'x' is not a number. ("),
        ("record tabletop --episodes 1 --out o --pushes -0.1", "record.pushes: -0.1 is too small; at least 0"),
        ("record tabletop --episodes 1 --out o --seed -1", "seed: -1 is too small; at least 0"),
        ("record tabletop --episodes 1 --out o --workers 1 --env-args famly=pick", "tabletop has no argument 'famly'"),
        ("record tabletop --episodes 1 --out o --env-args size=8 size=9", "--env-args: 'size' is given twice"),
        ("train tabletop-pick --dataset d --out o --train.steps 0", "train.steps: 0 is too small; at least 1"),
        ("train tabletop-pick --out o", "plait: --dataset is missing: Folder of a LeRobotDataset v3"),
        ("act", "plait: CHECKPOINT is missing: A checkpoint, or the folder"),
        ("record", "plait: ENV, --episodes and --out are missing (plait record --help shows all options.)"),
        ("train tabletop-pick", "plait: --dataset and --out are missing (plait train tabletop-pick --help"),
        ("record tabletop --out o --episodes", "plait: --episodes: its value is missing. (plait record --help"),
        ("record tabletop --episodes 1 --out o --images jpg", "--images: no choice 'jpg'; choose one of ['auto', "),
        ("eval c --instructions exchangd", "--instructions: no choice 'exchangd'; choose one of ['absent', "),
        ("eval c --instructions exchangd", "Did you mean 'exchanged'?"),
        ("train tabletop-pick --dataset d --out o --train.precision fp16", "Did you mean 'bfloat16'?"),
        ("train tabletop-pick --dataset /nowhere --out o", "/nowhere: no such folder"),
        ("list recips", "Did you mean 'recipes'?"),
        ("act /nowhere", "checkpoint /nowhere: does not exist"),
        ("eval /nowhere --env tabletop", "checkpoint /nowhere: does not exist"),
        (
            "record tabletop --episodes 1 --out o --env-args family",
            "--env-args: 'family' is not of the form",
        ),
        ("record tabletop --episodes 1 --out o --workers 1 --env-args size=96.5", "size: 96.5 pixels; give one whole"),
        ("record nomod:X-v0 --episodes 1 --out o --workers 1", "environment 'nomod:X-v0': No module named 'nomod'"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = told(capsys, *arguments.split(), code=2)
    assert error.startswith("plait: ") and error.count("\n") == 1
    assert sentence in error
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_an_unknown_environment_is_told(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'tabletop'?" in told(capsys, "eval", str(trained), "--env", "tabeltop", code=2)
    assert "--dataset predicts what is recorded, in no environment; leave out --env." in told(
        capsys, "eval", str(trained), "--env", "tabletop", "--dataset", "d", code=2
    )
    assert "was not recorded with plait; say --env ENV, or --dataset DATASET" in told(
        capsys, "eval", str(trained), code=2
    )


@pytest.mark.parametrize(
    ("recorded", "advice"),
    [({}, "plait eval '{run}' --dataset 'my data' tells"), ({"env": "tabletop"}, "plait eval '{run}' tells")],
)
def test_training_ends_with_the_command_that_judges_it(
    recorded: dict, advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoint.save(small_policy(), tmp_path / "a run", {"dataset": {"recorded": recorded}})
    monkeypatch.setattr("plait.train.policy.train", lambda *_: run)
    rates = [{"step": step, "samples_per_s": 100.0 * step, "data_wait": 0.01} for step in (1, 2, 9)]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rates, {"step": 10, "loss": 0.1}]))
    shown = told(capsys, "train", "tabletop-pick", "--dataset", "my data", "--out", str(run), code=0)
    assert "is finished (1000 steps, 200 samples/s, data wait 1.0%); " + advice.format(run=run) in shown


@pytest.mark.parametrize(
    "command",
    ["record tabletop --episodes 1", "train tabletop-pick --dataset d", "eval {folder} --env tabletop"],
)
def test_a_file_is_no_folder_for_results(trained: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = trained / "a.png"
    for out in (file, file / "below"):
        error = told(capsys, *command.format(folder=trained).split(), "--out", str(out), code=2)
        assert error == f"plait: --out {out}: {file} is a file; give a folder.\n"


def test_evaluations_of_other_scenes_have_other_folders(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = []
    monkeypatch.setattr("plait.cli.evaluate.Eval._closed_loop", lambda self, policy, out: outs.append(out.name))
    for words in ([], ["combinations=unseen"], ["quality=full", "cameras=a/b"]):
        told(capsys, "eval", str(trained), "--env", "tabletop", *(["--env-args", *words] if words else []), code=0)
    told(capsys, "eval", str(trained), "--env", "tabletop", "--execute", "2", code=0)
    told(capsys, "eval", str(trained), "--env", "tabletop", "--ensemble=0.01", "--instructions", "absent", code=0)
    env = "env=tabletop"  # nothing was recorded for this checkpoint; a recorded environment is not named
    assert outs[:3] == [f"normal-{env}", f"normal-{env}-combinations=unseen", f"normal-{env}-cameras=a_b-quality=full"]
    told(capsys, "eval", str(trained), "--env", "tabletop", "--seed", "7", code=0)
    assert outs[3:] == [f"normal-{env}-execute=2", f"absent-{env}-ensemble=0.01", f"normal-{env}-seed=7"]


def test_debug_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_DEBUG", "1")
    with pytest.raises(ValueError, match="no command"):
        main(["trian"])


def test_faults_and_interruptions_have_their_own_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code, sentence in (
        (RuntimeError("odd"), 1, "plait: RuntimeError: odd (PLAIT_DEBUG=1 shows where)\n"),
        (OSError(28, "No space left on device", "/x"), 2, "plait: No space left on device: /x\n"),
        (KeyboardInterrupt(), 130, "plait: interrupted; nothing was changed\n"),
        (KeyboardInterrupt("stopped; step 6 is saved"), 130, "plait: stopped; step 6 is saved\n"),
    ):
        monkeypatch.setattr(VERBS["list"], "run", lambda _, error=error: (_ for _ in ()).throw(error))
        assert told(capsys, "list", code=code) == sentence


def test_an_interrupted_training_tells_what_is_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("plait.train.policy.train", interrupted)
    command = ["train", "tabletop-pick", "--dataset", "d", "--out", str(tmp_path)]
    shown = told(capsys, *command, code=130)
    assert shown == "plait: interrupted; nothing is saved yet and the same command goes on from there\n"
    (tmp_path / "checkpoints/00000500").mkdir(parents=True)
    (tmp_path / "checkpoints/00000500/training.json").touch()
    assert "interrupted; step 500 is saved and the same" in told(capsys, *command, code=130)


def test_sigterm_interrupts_as_ctrl_c_does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERBS["record"], "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    shown = told(capsys, "record", "tabletop", "--episodes", "1", "--out", "o", code=130)
    signal.signal(signal.SIGTERM, before)
    assert shown == "plait: interrupted; every episode that was finished is safe, and the same command continues\n"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        ("KeyboardInterrupt", 130, "plait: interrupted; nothing was changed\n"),
        ("ImportError('no tyro here')", 2, "plait: no tyro here; install plait again, with all that it needs\n"),
    ],
)
def test_what_happens_before_any_verb_is_known_is_told_too(
    error: str, code: int, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "tyro.py").write_text(f"raise {error}")
    command = [sys.executable, "-m", "plait", "list"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", sentence)


def test_list_names_every_member(capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "list", code=0)
    for name in ("tabletop ", "--vision patch", "--language lstm", "--fusion cross_attention", *RECIPES):
        assert f"\n  {name}" in shown
    assert told(capsys, "list", "fusions", code=0).startswith("fusions:\n  --fusion film ")
    assert "--memory recurrent " in told(capsys, "list", "memories", code=0)
    assert told(capsys, "list", "head", code=0).startswith("heads:\n  --head regression ")


def test_act_prints_the_parts_with_their_conventions(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = "--state=-0.1,0,0.2,0,0,0,0.04,0.04"
    arguments = [
        "act",
        str(trained),
        "--image",
        f"front={trained / 'a.png'}",
        "--instruction",
        "pick up the pink ball",
        state,
    ]
    assert main(arguments) == 0
    shown, warned = capsys.readouterr()
    picture = random_observation(rows=1).images["front"][0].numpy()
    with pytest.warns(UserWarning):
        action = small_policy().act({"front": picture}, "pick up the pink ball", [-0.1, 0, 0.2, 0, 0, 0, 0.04, 0.04])
    first, second, rest = warned.split("\n")
    assert first.startswith("left out, though the policy was trained with it: camera wrist; a learned token takes its")
    assert second.startswith("words that training never saw: pink; ") and not rest
    x, y, z = action.position
    assert f"position  x {x:+.3f}  y {y:+.3f}  z {z:+.3f}   (delta)\n" in shown
    assert f"gripper   gripper {action.gripper:+.3f}   (positive closes)\n" in shown


def test_act_without_cameras_goes_by_the_state_and_with_a_memory_says_that_it_is_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = Spec(cameras={}, state=("a", "b"), actions=("x", "gripper"))
    policy = small_policy(spec=spec, fusion=LateConfig(), memory=RecurrentConfig(steps=3))
    folder = str(checkpoint.save(policy, tmp_path / "c"))
    assert main(["act", folder, "--state=1,2", "--instruction", "pick up the red ball"]) == 0
    shown, warned = capsys.readouterr()
    assert shown.startswith("position  x ") and "\ngripper   gripper " in shown
    assert warned == "the policy's memory is empty here, as at the start of an episode\n"
    assert "no state is given; say --state=NUMBERS, with commas between: a, b." in told(capsys, "act", folder, code=2)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ([], "no image is given; say --image CAMERA=FILE, with one of ['front', 'wrist']"),
        (["--image", "front.png"], "--image: 'front.png' is not of the form CAMERA=FILE."),
        (["--image", "front=nowhere.png"], "no such image: nowhere.png"),
        (["--image", "front={folder}/config.json"], "config.json is not an image that can be read"),
        (["--image", "left={folder}/a.png"], "no camera 'left'"),
        (["--image", "front={folder}/a.png", "--image", "front=b.png"], "--image: 'front' is given twice"),
        (["--image", "front={folder}/a.png", "--state", "1,2"], "state of 2 entries: this policy was trained with 8"),
        (["--image", "front={folder}/a.png", "--state", "1;2"], "'1;2' is not numbers with commas between"),
        (["--image", "front={folder}/a.png", "--state", "1,nan,0,0,0,0,0,0"], "state: y is nan; each entry must be"),
    ],
)
def test_act_tells_what_is_wrong(
    trained: Path, extra: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in told(capsys, "act", str(trained), *(word.format(folder=trained) for word in extra), code=2)


def test_pairs_have_types() -> None:
    assert pairs(["family=pick", "n=3", "x=0.5", "on=true", "size=[1,2]", "s=a=b"], "--env-args") == {
        "family": "pick", "n": 3, "x": 0.5, "on": True, "size": [1, 2], "s": "a=b",
    }  # fmt: skip
    assert pairs(["size=64,96", "cameras=front,wrist"], "--env-args") == {
        "size": [64, 96],
        "cameras": ["front", "wrist"],
    }
    assert pairs(["cameras="], "--env-args") == {"cameras": []}
    assert texts(["front=1,2.png", "wrist=3"], "--image") == {"front": "1,2.png", "wrist": "3"}
    with pytest.raises(ValueError, match=r"--image: 'front\.png' is not of the form CAMERA=FILE\."):
        texts(["front.png"], "--image", "CAMERA=FILE")
