from math import exp, log
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize

from plait.alignment.contrastive import OBJECTIVES, ContrastiveMultiModal, InfoNCE, LogitScale, ObjectiveName, Sigmoid
from plait.alignment.right import Right

DOCUMENT = Path(__file__).parents[2] / "docs/alignment.md"


class Encoder(nn.Linear):
    def __init__(self, inputs: int, output_dim: int):
        super().__init__(inputs, output_dim)
        self.output_dim = output_dim


def model(objective: ObjectiveName = "infonce", temperature: float = 0.07) -> ContrastiveMultiModal:
    torch.manual_seed(0)
    return ContrastiveMultiModal(Encoder(12, 8), Encoder(9, 6), 16, temperature, objective)


def data(n: int = 10) -> tuple[Tensor, Tensor]:
    """Images and texts that tell of the same thing."""
    torch.manual_seed(1)
    things = torch.randn(n, 4)
    return things @ torch.randn(4, 12), things @ torch.randn(4, 9)


def scale_after(temperature: float, gradients: list[float]) -> tuple[float, float]:
    """The scale after a step of SGD along each gradient of the scale, and what is stored of it."""
    scale = LogitScale(temperature)
    optimizer = torch.optim.SGD(scale.parameters(), lr=1.0)
    for gradient in gradients:
        optimizer.zero_grad()
        (gradient * scale()).backward()
        optimizer.step()
    return scale().item(), scale.log_scale.item()


def test_the_temperature_is_where_the_scale_begins_and_every_logit_has_it() -> None:
    for temperature in (0.07, 0.5, 2.0):
        both = model(temperature=temperature)
        vision, text = both.encode(*data())
        torch.testing.assert_close(both(*data())[0], vision @ text.T / temperature)


def test_the_temperature_is_learned() -> None:
    both = model(temperature=1.0)
    optimizer = torch.optim.AdamW(both.parameters(), lr=3e-2)
    before = both.compute_loss(*both(*data())).item()
    for _ in range(50):
        optimizer.zero_grad()
        both.compute_loss(*both(*data())).backward()
        optimizer.step()
    assert both.compute_loss(*both(*data())).item() < 0.2 * before and both.objective.scale().item() > 2


def test_the_scale_is_clamped_forward_and_backward_and_can_come_back() -> None:
    assert scale_after(0.01, [-1.0])[0] == pytest.approx(100)
    there = scale_after(0.02, [-1.0])
    assert there[0] == 100 and there[1] > log(100)
    assert scale_after(0.02, [-1.0, -1.0, -5.0]) == there, "it drifts no further"
    assert scale_after(0.02, [-1.0, 1.0])[0] < 1, "and is not held there"


@pytest.mark.parametrize("temperature", [0.009, 0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_beyond_the_bound_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature = {temperature}: at least 0.01; CLIP begins at 0.07"):
        model(temperature=temperature)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_loss_of_the_logits_is_that_of_the_embeddings(objective: ObjectiveName) -> None:
    both = model(objective)
    per_image, per_text = both(*data())
    assert torch.equal(per_text, per_image.T)
    losses = both.compute_loss(per_image, per_text), both.objective(*both.encode(*data()))
    torch.testing.assert_close(*losses)
    found, expected = (torch.autograd.grad(loss, list(both.parameters()), retain_graph=True) for loss in losses)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n", [2, 8])
def test_info_nce_of_pairs_that_agree_and_of_nothing_but_chance(n: int) -> None:
    objective, unit = InfoNCE(1.0), torch.eye(n)
    assert objective(unit, unit).item() == pytest.approx(log(1 + (n - 1) / torch.e))
    assert objective(unit[:1].repeat(n, 1), unit[:1].repeat(n, 1)).item() == pytest.approx(log(n))


def test_sigmoid_is_what_the_paper_says() -> None:
    vision, text = (normalize(torch.randn(5, 3), dim=1) for _ in range(2))
    objective = Sigmoid(temperature=0.1, bias=-3.0)
    terms = [logsigmoid((1.0 if i == j else -1.0) * (10 * vision[i] @ text[j] - 3)) for i in range(5) for j in range(5)]
    torch.testing.assert_close(objective(vision, text), -torch.stack(terms).sum() / 5)
    assert Sigmoid()(torch.eye(2), torch.eye(2)).item() == pytest.approx(log(2), abs=1e-4)  # 10 * 1 - 10 = 0


TWO_TRUE = Right(torch.tensor([0, 1, 2]), torch.tensor([[0, 1], [1, -1], [2, -1]]))  # both texts 0 and 1 are true of 0


def test_two_true_texts_of_one_picture_by_hand() -> None:
    """Unit embeddings and scale 1: a logit is 1 on the diagonal and 0 elsewhere; one row and one column have two right
    answers, of which one has the logit 1 and the other 0.
    """
    unit, whole = torch.eye(3), log(torch.e + 2)
    rows = [whole - 1 / 2, whole - 1, whole - 1]
    columns = [whole - 1, whole - 1 / 2, whole - 1]  # text 1 is true of pictures 0 and 1
    assert InfoNCE(1.0)(unit, unit, right=TWO_TRUE).item() == pytest.approx((sum(rows) + sum(columns)) / 6)
    yes, no = log(1 + exp(-1)), log(2)  # of a right pair with logit 1; of any combination with logit 0
    assert Sigmoid(1.0, bias=0.0)(unit, unit, right=TWO_TRUE).item() == pytest.approx((3 * yes + 6 * no) / 3)
    assert Sigmoid(1.0, bias=-2.0)(unit, unit, right=TWO_TRUE).item() == pytest.approx(
        (3 * log(1 + exp(1)) + log(1 + exp(2)) + 5 * log(1 + exp(-2))) / 3
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_true_text_is_drawn_near_and_not_pushed_away(objective: ObjectiveName) -> None:
    """All other answers being as they are: which way does text 1, true of picture 0 too, go from where it is?"""
    vision = torch.eye(4)[:3]
    text = normalize(torch.tensor([[1, 0, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0.0]]), dim=1)

    def pull(right: Right | None) -> float:
        moved = text.clone().requires_grad_()
        OBJECTIVES[objective](0.5)(vision, moved, right=right).backward()
        assert moved.grad is not None
        return -moved.grad[1, 0].item()

    assert pull(None) < 0 < pull(TWO_TRUE)


def test_what_is_true_of_two_pictures_is_not_wanted_both_near_and_far() -> None:
    objective, same = Sigmoid(temperature=0.05, bias=-10.0), torch.eye(2)[[0, 0]]  # logits of 20 - 10
    equal = Right.grouped(["a cube", "a cube"], 2)
    assert objective(same, same, right=equal).item() == pytest.approx(2 * log(1 + exp(-10)), rel=1e-3)
    assert objective(same, same).item() == pytest.approx(10 + 2 * log(1 + exp(-10)), rel=1e-3)


def test_where_only_texts_are_equal_info_nce_is_the_plain_loss() -> None:
    vision, text = normalize(torch.randn(4, 3), dim=1), normalize(torch.randn(4, 3), dim=1)[[0, 1, 0, 0]]
    objective = InfoNCE(0.2)
    mine = objective(vision, text, right=Right.grouped([0, 1, 0, 0], 4))
    torch.testing.assert_close(mine, objective(vision, text))


def test_embeddings_are_of_unit_length_and_of_the_width_that_was_said() -> None:
    for embeds in model().encode(*data()):
        assert embeds.shape == (10, 16)
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(10))
    assert ContrastiveMultiModal(Encoder(12, 8), Encoder(9, 6)).encode(*data())[0].shape == (10, 512)


def test_an_encoder_that_does_not_tell_its_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Linear\.output_dim = None: set it to the width of the features"):
        ContrastiveMultiModal(nn.Linear(3, 3), Encoder(9, 6))


@pytest.mark.parametrize(("objective", "temperature"), [("infonce", 0.07), ("sigmoid", 0.1)])
def test_each_objective_begins_at_its_own_temperature(objective: ObjectiveName, temperature: float) -> None:
    model = ContrastiveMultiModal(Encoder(12, 8), Encoder(9, 6), objective=objective)
    assert model.objective.scale().item() == pytest.approx(1 / temperature)


def test_an_objective_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(ValueError, match=r"no objective 'clip'; choose one of \['infonce', 'sigmoid'\]"):
        ContrastiveMultiModal(Encoder(12, 8), Encoder(9, 6), objective="clip")  # pyright: ignore[reportArgumentType]


def test_the_example_in_the_document_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = DOCUMENT.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(code, {})
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(printed["retrieval_acc"]) > 0.9 and float(printed["gap_to_variance_ratio"]) < 0.2
