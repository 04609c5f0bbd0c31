"""Several processes train as one does: the same losses, every frame once, one writer, one voice."""

import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import plait
import together
from plait.data.augment import Augment
from plait.data.lerobot import Dataset
from plait.data.loader import Loader
from plait.data.world import ALONE, World
from plait.encoders.tokenizer import Tokenizer
from plait.encoders.vision import TimmConfig
from plait.fusion import CrossAttentionConfig
from plait.heads import DiffusionConfig, DiscreteConfig, FlowConfig, Head, MixtureConfig, RegressionConfig
from plait.heads.keyframe import KeyframeConfig
from plait.policy import PolicyConfig
from plait.train.config import TrainConfig
from plait.train.modulation import Modulation
from plait.train.policy import check_shared, train
from plait.train.run import checkpoints
from plait.train.tracker import read_log
from policies import random_batch, small_policy

WARNING = r"\n|(?=W\d{4} )"  # torchrun may write one into a line of ours
DATASET = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_images"
# no batch norm; short episodes and a long chunk, so that the processes have masks of very different sizes
POLICY = PolicyConfig(
    image_size=32, vision=TimmConfig("test_vit"), fusion=CrossAttentionConfig(dim=32, heads=2, stages=())
)
CONFIG = TrainConfig(
    steps=6, batch_size=8, warmup_steps=2, precision="float32", augment=Augment(shift=2), modality_dropout=0.2,
    validate_every=3, checkpoint_every=3, keep=9, device="cpu", val_fraction=0.3,
)  # fmt: skip
SHARDED = replace(CONFIG, shard=True)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "plait"]
SMALL = "--image-size 16 --train.device cpu --train.batch-size 8"
DRAWING = {"flow": FlowConfig(), "diffusion": DiffusionConfig(), "dropout": RegressionConfig(dropout=0.2)}


def begun(folder: Path, run: Path) -> Path:
    """A run of which only the first half was made."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints/00000006")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[together.Ends]]:
    """A folder of runs, and how two processes ended the jobs. ``one``: trained by one process, ``two``: by two,
    ``sharded``: by two, each with its part of the weights; ``one-two`` and the like: by one after the other.
    """
    folder = tmp_path_factory.mktemp("runs")
    dataset = shutil.copytree(DATASET, folder / "dataset")
    train(POLICY, CONFIG, dataset, folder / "one")
    for name, head in DRAWING.items():
        train(replace(POLICY, head=head), CONFIG, dataset, folder / f"one-{name}")
    jobs = [
        *((replace(POLICY, head=head), CONFIG, dataset, folder / f"two-{name}") for name, head in DRAWING.items()),
        (POLICY, CONFIG, dataset, folder / "two"),
        (POLICY, CONFIG, dataset, begun(folder / "one-two", folder / "one")),
        (POLICY, SHARDED, dataset, folder / "sharded"),
        (POLICY, SHARDED, dataset, begun(folder / "one-sharded", folder / "one")),
        (POLICY, replace(CONFIG, learning_rate=1e30, clip_norm=1e30), dataset, folder / "broken"),
    ]
    ends = together.train(jobs)
    train(POLICY, CONFIG, dataset, begun(folder / "two-one", folder / "two"))
    train(POLICY, CONFIG, dataset, begun(folder / "sharded-one", folder / "sharded"))
    return folder, ends


@pytest.fixture
def runs(trained: tuple[Path, list[together.Ends]]) -> Path:
    return trained[0]


def test_there_is_no_batch_norm_and_masks_differ(runs: Path) -> None:
    """Else the comparison would show nothing."""
    policy = plait.load(runs / "one")
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in policy.modules())
    one, other = (loader(Dataset.open(DATASET), World(rank, 2)).batch(0) for rank in range(2))
    assert one.action_mask.sum() != other.action_mask.sum()


@pytest.mark.parametrize("name", ["two", "one-two", "two-one", "sharded", "one-sharded", "sharded-one"])
def test_the_number_of_processes_changes_nothing(runs: Path, name: str) -> None:
    for mine, theirs in zip(read_log(runs / name), read_log(runs / "one"), strict=True):
        same = {key: value for key, value in theirs.items() if key not in ("samples_per_s", "data_wait")}
        assert {key: mine[key] for key in same} == pytest.approx(same, rel=1e-4), f"step {theirs['step']}"
    mine, theirs = (plait.load(runs / each).state_dict() for each in (name, "one"))
    for key, value in theirs.items():
        assert torch.allclose(mine[key], value, atol=1e-4), key


@pytest.mark.parametrize("name", DRAWING)
def test_what_the_model_draws_is_of_the_sample_not_of_the_process(runs: Path, name: str) -> None:
    for one, two in zip(*(read_log(runs / f"{way}-{name}") for way in ("one", "two")), strict=True):
        losses = {key: value for key, value in one.items() if "loss" in key or key.startswith("validation/")}
        assert {key: two[key] for key in losses} == pytest.approx(losses, rel=1e-4)
        assert "loss" in losses and ("validation/loss" in losses) == (one["step"] % CONFIG.validate_every == 0)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize(
    "way", [{}, {"cuda_graph": True}, {"cuda_graph": True, "compile": True}, {"shard": True}], ids=str
)
def test_two_gpus_train_as_one_does(tmp_path: Path, way: dict[str, bool]) -> None:
    dataset, config = shutil.copytree(DATASET, tmp_path / "d"), replace(CONFIG, device="cuda", **way)
    for name, processes in {"one": 1, "two": 2}.items():  # of their own: what checks types here cannot be compiled
        ends = together.train([(POLICY, config, dataset, tmp_path / name)], processes)
        assert [end for ((end, _),) in ends] == ["finished"] * processes
    one, two = ([row["loss"] for row in read_log(tmp_path / name)] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-2)


def test_one_process_writes(trained: tuple[Path, list[together.Ends]]) -> None:
    leader, other = trained[1]
    assert leader[:-1] == [("finished", 2)] * len(DRAWING) + [("finished", 2), ("finished", 1)] * 2
    assert [written for _, written in other] == [0] * (len(DRAWING) + 5)


def test_what_ends_all_is_told_once(trained: tuple[Path, list[together.Ends]]) -> None:
    (*_, (told, _)), (*_, (left, _)) = trained[1]
    assert told.startswith("FloatingPointError: the loss became nan") and left == "SystemExit: 1"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch_size": 9}, "train.batch_size = 9: it is that of all 2 processes .* say --train.batch-size 8"),
        ({"batch_size": 1}, "train.batch_size = 1: .* say --train.batch-size 2"),
        ({"modulation": Modulation(noise=True)}, "train.modulation.noise = True: .* say --train.modulation.no-noise"),
        (
            {"shard": True, "cuda_graph": True},
            "train.cuda_graph = True: .* say --train.no-cuda-graph, or leave --train.sh",
        ),
        (
            {"shard": True, "compile": True},
            "train.compile = True: .* say --train.no-compile, or leave --train.shard out",
        ),
    ],
)
def test_what_several_processes_cannot_share_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_shared(replace(CONFIG, **change), World(0, 2))
    check_shared(replace(CONFIG, **change), ALONE)


def loader(dataset: Dataset, world: World = ALONE) -> Loader:
    policy = POLICY.build(dataset.spec, Tokenizer.build(dataset.tasks))
    return Loader(dataset, policy.prepare, 8, 8, (32, 32), augment=Augment(), validation=0.3, world=world, cache=False)


@pytest.mark.parametrize(
    "head", [RegressionConfig(), DiscreteConfig(bins=8), MixtureConfig()], ids=lambda head: type(head).__name__
)
def test_the_mean_of_the_parts_is_the_loss_of_the_whole(head: Head) -> None:
    """Wherever the valid entries are, and when a process has none at all."""
    policy = small_policy(head=head, keyframe=KeyframeConfig(ahead=1))
    whole = random_batch(policy, rows=4)
    whole = replace(whole, action_mask=whole.action_mask & torch.tensor([[True], [True], [False], [False]]))
    valid = {name: getattr(whole, f"{name}_mask").sum(0) / 2 for name in ("action", "keyframe")}
    parts = [pytree.tree_map(World(rank, 2).part, whole) for rank in range(2)]
    losses = [policy.loss(replace(p, action_valid=valid["action"], keyframe_valid=valid["keyframe"])) for p in parts]
    for name, value in policy.loss(whole).items():
        torch.testing.assert_close((losses[0][name] + losses[1][name]) / 2, value)


def test_torchrun_is_interrupted_without_loss(tmp_path: Path) -> None:
    dataset, run = shutil.copytree(DATASET, tmp_path / "d"), tmp_path / "run"
    words = f"train tabletop-pick --dataset {dataset} --out {run} --train.log-every 2 {SMALL}"
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen([*TORCHRUN, *words.split()], stderr=told, stdout=told)
    deadline = time.monotonic() + 120
    while len(read_log(run)) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    (checkpoint,) = (run / "checkpoints").iterdir()
    step = len(read_log(run))
    assert checkpoints(run) == [checkpoint] and checkpoint.name == f"{step:08d}" and plait.load(run)
    told = re.split(WARNING, (tmp_path / "told").read_text())
    lines = [line for line in told if line.startswith(("plait:", "stopping"))]
    stopped = f"plait: stopped; step {step} of 1000 is saved in {run} and the same command continues"
    assert lines == ["stopping after this step and writing a checkpoint; once more stops at once", stopped]


ENDED = """
import os, torch, plait.train.distributed
from torch import distributed as dist
threads = lambda: [open(f"/proc/self/task/{each}/comm").read() for each in os.listdir("/proc/self/task")]
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
torch.optim.AdamW([torch.zeros(1)])  # loads the compiler, and with it torch.distributed.nn
assert any("gloo" in name for name in threads())
dist.destroy_process_group()
assert not any("gloo" in name for name in threads())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are named in /proc")
def test_no_thread_of_the_group_outlives_it() -> None:
    """Else it could meet an interpreter that is no more, and abort a run that is finished."""
    subprocess.run([sys.executable, "-c", ENDED], check=True, timeout=120)


def test_torchrun_aligns_encoders_to_the_end(tmp_path: Path) -> None:
    """The fixture's pictures, told by its two instructions: held-out ones are measured once, by one process."""
    words = f"align --dataset {DATASET} --out {tmp_path / 'run'} --train.steps 4 --train.val-fraction 0.3 {SMALL}"
    told = subprocess.run([*TORCHRUN, *words.split()], capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("held-out pictures (") == told.stdout.count("details: ") == 1
    assert [row["step"] for row in read_log(tmp_path / "run")] == [1, 2, 3, 4]
    assert (tmp_path / "run/align.json").exists() and len(checkpoints(tmp_path / "run")) == 1
