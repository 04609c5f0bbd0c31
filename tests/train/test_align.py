"""Encoders learn from pairs, exactly resumed, and a policy starts from them."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from plait import checkpoint
from plait.alignment.aligner import AlignConfig
from plait.alignment.pairs import Pairs, Scenes, scenes
from plait.alignment.right import Right
from plait.config import to_dict
from plait.data.augment import Augment
from plait.data.world import World
from plait.encoders.language import HuggingFaceConfig, LstmConfig, TextTransformerConfig
from plait.encoders.tokenizer import Tokenizer
from plait.encoders.vision import PatchConfig, TimmConfig
from plait.policy import Policy, PolicyConfig
from plait.train import aligned
from plait.train.align import PairSource, align, divided
from plait.train.align_metrics import measure
from plait.train.config import TrainConfig
from plait.train.initialise import start_from
from plait.train.tracker import read_log
from policies import SPEC, TEXT_MODEL, small_policy

CONFIG = AlignConfig(image_size=32, stages=(24,), embed_dim=32)
TRAIN = TrainConfig(
    steps=6, batch_size=16, learning_rate=1e-2, warmup_steps=5, ema_decay=0.9, precision="float32", device="cpu",
    augment=Augment(1, 0.0, 0.0, 0.0), val_fraction=0.3, validate_every=3, checkpoint_every=3, keep=9,
)  # fmt: skip
TEXTS = ["pick the red ball", "a green cube"]


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return scenes("tabletop", {}, 180, 32)


@pytest.fixture(scope="module")
def run(drawn: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return align(CONFIG, TRAIN, drawn, tmp_path_factory.mktemp("aligned") / "run", {"scenes": 180})


def saved(folder: Path, **config: object) -> Path:
    """A checkpoint of encoders that have learned nothing."""
    torch.manual_seed(5)
    aligner = replace(CONFIG, **config).build(Tokenizer.build(TEXTS))  # pyright: ignore
    aligned.save(aligner, folder, {}, lambda _: None)
    return folder


def fresh(**config: object) -> Policy:
    torch.manual_seed(7)
    return PolicyConfig(**({"image_size": 32} | config)).build(SPEC, Tokenizer.build(["lift the red ball"]))  # pyright: ignore


def test_held_out_scenes_are_found_far_better_than_by_chance(drawn: Scenes, tmp_path: Path) -> None:
    train = replace(TRAIN, steps=40, batch_size=48, validate_every=40, checkpoint_every=40)
    found = measure(aligned.load(align(CONFIG, train, drawn, tmp_path / "run", {})), divided(drawn, 0.3)[1])
    assert found["pictures"] == 54 and found["chance_r1"] < 0.04
    assert min(found["vision_to_text_r10"], found["text_to_vision_r10"]) > 0.45, "10 of 54 are 19 %"
    low, high = found["pc_placed_ci95"]
    assert low < found["pc_placed"] < high


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(drawn: Scenes, run: Path, tmp_path: Path) -> None:
    half, second = tmp_path / "half", "checkpoints/00000003"
    align(CONFIG, TRAIN, drawn, half, {"scenes": 180})
    whole = {path: path.read_bytes() for path in (half / "checkpoints/00000006").glob("model*")}
    for file in (half / "checkpoints/00000006").iterdir():
        file.unlink()
    (half / "checkpoints/00000006").rmdir()
    assert (half / second / "training.json").exists()
    align(CONFIG, TRAIN, drawn, half, {"scenes": 180})
    assert whole and all(path.read_bytes() == content for path, content in whole.items())
    log = read_log(half)
    assert [row["step"] for row in log] == [1, 2, 3, 4, 5, 6] and "validation/loss" in log[-1]
    with pytest.raises(ValueError, match=r"other settings: alignment.embed_dim \(32 then, 16 now\)"):
        align(replace(CONFIG, embed_dim=16), TRAIN, drawn, half, {"scenes": 180})


@pytest.mark.parametrize("language", [LstmConfig(), TextTransformerConfig(), HuggingFaceConfig(TEXT_MODEL)])
def test_a_checkpoint_is_what_was_saved(language: object, tmp_path: Path) -> None:
    torch.manual_seed(5)
    aligner = replace(CONFIG, language=language, objective="sigmoid").build(Tokenizer.build(TEXTS)).eval()  # pyright: ignore
    aligned.save(aligner, tmp_path / "a", {"step": 3}, lambda _: None)
    again = aligned.load(tmp_path / "a")
    assert again.config == aligner.config and again.tokenizer.vocabulary == aligner.tokenizer.vocabulary
    torch.testing.assert_close(again.embed_texts(TEXTS), aligner.embed_texts(TEXTS))
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}


def test_what_is_no_checkpoint_of_aligned_encoders_is_told(tmp_path: Path) -> None:
    checkpoint.save(small_policy(), tmp_path / "policy")  # pyright: ignore
    with pytest.raises(ValueError, match="it is a policy; give the folder of a run of plait align"):
        aligned.load(tmp_path / "policy")
    (saved(tmp_path / "broken") / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="a file is missing or damaged"):
        aligned.load(tmp_path / "broken")


def test_every_picture_comes_once_per_epoch_with_one_of_its_texts(drawn: Scenes) -> None:
    pairs = drawn.some(np.arange(12))
    source = PairSource(pairs, pairs, CONFIG.build(Tokenizer.build(chain(*pairs.texts))), 4)
    batches = list(source.stream(0, 6))
    for epoch in (batches[:3], batches[3:]):
        images = torch.cat([batch.images for batch in epoch])
        assert len({image.numpy().tobytes() for image in images}) == 12
    assert not torch.equal(batches[0].images, batches[3].images), "another order"
    again = next(iter(source.stream(4, 5)))
    assert torch.equal(again.images, batches[4].images) and torch.equal(again.words, batches[4].words)
    words = {row.numpy().tobytes() for batch in batches for row in batch.words}
    assert 12 < len(words) <= 24, "some pictures had two different texts"
    for batch in batches:
        same_words = (batch.words[:, None] == batch.words).all(dim=-1)
        assert torch.equal(batch.text[:, None] == batch.text, same_words)


def test_processes_share_a_batch(drawn: Scenes) -> None:
    model = CONFIG.build(Tokenizer.build(chain(*drawn.texts)))
    learned, kept = divided(drawn, 0.3)
    worlds = World(), World(0, 2), World(1, 2)
    sources = [PairSource(learned, kept, model, 8, 0, TRAIN.augment, world) for world in worlds]
    for batches in ([source.stream(0, 3) for source in sources], [source.validation() for source in sources]):
        for whole, one, two in zip(*batches, strict=True):
            assert len(one) == len(two) == 4
            assert torch.equal(whole.images, torch.cat([one.images, two.images]))
            assert torch.equal(whole.text, torch.cat([one.text, two.text]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality_dropout": 0.1}, "it is meant for policies; leave --train.modality-dropout out"),
        ({"imbalance_every": 5}, "train.imbalance_every = 5: it is meant for policies"),
        ({"val_fraction": 0.0}, "train.val_fraction = 0: the metrics need pictures that are held out"),
        ({"val_fraction": 0.001}, "it holds out 1 of 180 pictures, the metrics need 2; give more pictures"),
        ({"batch_size": 500}, "train.batch_size = 500: .* here 126; say --train.batch-size 126 or less"),
    ],
)  # fmt: skip
def test_settings_without_meaning_are_refused(change: dict, message: str, drawn: Scenes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        align(CONFIG, replace(TRAIN, **change), drawn, tmp_path / "run", {})


def test_a_policy_starts_from_the_encoders(run: Path) -> None:
    source, policy = aligned.load(run), fresh()
    before = policy.encoder.language.embedding.weight.clone()
    told = start_from(policy, run)
    for camera in ("front", "wrist"):
        mine, theirs = policy.encoder.cameras[camera].state_dict(), source.vision_encoder.encoder.state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    mine, theirs = policy.encoder.language, source.text_encoder.encoder
    assert torch.equal(mine.lstm.weight_hh_l0, theirs.lstm.weight_hh_l0)
    words, known = policy.tokenizer.vocabulary, source.tokenizer.vocabulary
    assert torch.equal(mine.embedding.weight[words["red"]], theirs.embedding.weight[known["red"]])
    assert torch.equal(mine.embedding.weight[words["lift"]], before[words["lift"]])
    assert told.splitlines() == [
        "init: the encoders of cameras (front, wrist) and words start from the aligned ones; all else starts anew",
        "init: words that were not aligned: lift",
    ]
    front, wrist = (encoder.convolution.weight for encoder in policy.encoder.cameras.values())
    assert front.data_ptr() != wrist.data_ptr(), "each camera learns on its own"


def test_places_in_longer_sentences_are_taken_as_far_as_they_go(tmp_path: Path) -> None:
    torch.manual_seed(5)
    long = replace(CONFIG, language=TextTransformerConfig()).build(Tokenizer.build(["the red ball " * 6]))
    aligned.save(long, tmp_path / "a", {}, lambda _: None)
    policy = fresh(language=TextTransformerConfig())
    start_from(policy, tmp_path / "a")
    mine, theirs = policy.encoder.language.position, long.text_encoder.encoder.position
    assert len(mine) == 16 < len(theirs) and torch.equal(mine, theirs[:16])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"image_size": 48}, "init: image_size is 48 here and 32 in the aligned encoders; say --image-size 32."),
        ({"vision": PatchConfig(width=64)}, "vision.width is 64 here and 48 in the .*; say --vision.width 48."),
        ({"vision": TimmConfig("test_vit")}, "vision is 'timm' here and 'patch' in the .*; say --vision patch."),
        ({"language": TextTransformerConfig()}, "init: language is 'text_transformer' here and 'lstm' in"),
        ({"language": LstmConfig(layers=2)}, "language.layers is 2 here and 1 in the .*; say --language.layers 1."),
    ],
)  # fmt: skip
def test_other_encoders_are_refused_by_name(config: dict, message: str, tmp_path: Path) -> None:
    policy = fresh(**config)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        start_from(policy, saved(tmp_path / "a"))
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_how_an_encoder_is_loaded_and_trained_may_differ(tmp_path: Path) -> None:
    source = saved(tmp_path / "a", vision=TimmConfig("test_vit"))
    assert "start from the aligned" in start_from(fresh(vision=TimmConfig("test_vit", frozen=True)), source)


def test_a_policy_still_starts_from_a_policy(tmp_path: Path) -> None:
    source = small_policy()
    checkpoint.save(source, tmp_path / "policy")  # pyright: ignore
    assert "tensors are taken from the checkpoint" in start_from(fresh(), tmp_path / "policy")


def test_each_text_of_a_picture_is_a_right_answer(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture lies nearest to one of its texts, never to the one that is drawn from them."""
    model, texts = aligned.load(run), [["a", "b"], ["c", "b"], ["d", "e", "f"]]
    corner = dict(zip("abcdef", torch.eye(6), strict=True))
    pictures = torch.stack([corner["b"] + 0.5 * corner["e"], corner["c"], corner["f"] + 0.1 * corner["d"]])
    monkeypatch.setattr(Pairs, "drawn", lambda *_: ["a", "b", "d"])
    monkeypatch.setattr(model, "embed_images", lambda _: torch.nn.functional.normalize(pictures, dim=1))
    monkeypatch.setattr(model, "embed_texts", lambda names: torch.stack([corner[name] for name in names]))
    found = measure(model, Pairs(torch.zeros(3, 32, 32, 3, dtype=torch.uint8), texts))
    assert (found["pictures"], found["texts"]) == (3, 6) and "pc_placed" not in found
    assert found["chance_r1"] == pytest.approx(7 / 18), "seven of the combinations are right"
    assert found["vision_to_text_r1"] == 1, "b, c and f"
    assert found["text_to_vision_r1"] == pytest.approx(4 / 6), "not a, near none, nor e, near the first"
    assert found["retrieval_acc"] == pytest.approx(5 / 6)


def test_a_batch_says_which_of_its_texts_are_true_of_which_pictures(drawn: Scenes) -> None:
    source = PairSource(drawn, drawn, CONFIG.build(Tokenizer.build(chain(*drawn.texts))), 90)
    true = {tuple(rows.tolist()): texts for rows, texts in zip(drawn.images.flatten(1), drawn.texts, strict=True)}
    for batch in source.stream(0, 2):
        assert batch.true.shape == (90, 4)
        pictures = [true[tuple(image.flatten().tolist())] for image in batch.images]
        said = [source.model.tokenizer.encode(texts)[0].tolist() for texts in pictures]
        right = Right(batch.text, batch.true).tile()
        assert right.tolist() == [[words in own for words in batch.words.tolist()] for own in said]
        assert (right & (batch.text[:, None] != batch.text)).any(), "true of a picture that was given another one"


def test_the_settings_are_in_the_run(run: Path) -> None:
    assert checkpoint.describe(checkpoint.find(run))["alignment"] == to_dict(CONFIG)  # pyright: ignore


def test_as_a_policy_it_is_refused_with_the_way_on(run: Path) -> None:
    with pytest.raises(ValueError, match=r"aligned encoders, no policy; plait train --init .*run starts one"):
        checkpoint.load(run)
