import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from plait.heads.mixture import Mixture, MixtureConfig
from plait.types import Shape, Tokens

TOKENS = Tokens(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))


def built(**config: object) -> Mixture:
    return MixtureConfig(**config).build(Shape(3, 8), horizon=4, actions=2)  # type: ignore[arg-type]


def test_the_loss_is_the_likelihood_of_whole_chunks() -> None:
    head, action = built(), torch.randn(2, 4, 2)
    log_weight, mean, deviation = head.mixture(TOKENS)
    chunks = MixtureSameFamily(Categorical(logits=log_weight), Independent(Normal(mean, deviation), 2))
    loss = head.loss(TOKENS, action, torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(loss, -chunks.log_prob(action).mean() / 8)


def test_it_acts_on_the_mean_of_the_most_probable_component() -> None:
    head = built(components=3)
    log_weight, mean, _ = head.mixture(TOKENS)
    for row, chunk in enumerate(head.act(TOKENS)):
        assert torch.equal(chunk, mean[row, log_weight[row].argmax()])


def test_drawn_components_come_as_often_as_they_are_probable() -> None:
    head, rows = built(components=3, drawn=True), 4000
    tokens = Tokens(TOKENS.data[:1].expand(rows, -1, -1), TOKENS.mask[:1].expand(rows, -1))
    torch.manual_seed(0)
    log_weight, mean, _ = head.mixture(tokens)
    came = (head.act(tokens)[:, None] == mean).all(dim=(2, 3)).float().mean(dim=0)
    torch.testing.assert_close(came, log_weight[0].exp(), atol=0.03, rtol=0)


def test_no_deviation_is_below_the_floor() -> None:
    head = built(floor=0.2)
    with torch.no_grad():
        head.layers[-1].bias.fill_(-1e4)  # type: ignore[union-attr]
    assert head.mixture(TOKENS)[2].min() >= 0.2
    assert head.loss(TOKENS, torch.zeros(2, 4, 2), torch.ones(2, 4, dtype=torch.bool)).isfinite()


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mixture\.components: 0 is too small; at least 1"):
        built(components=0)
    with pytest.raises(ValueError, match=r"mixture\.floor: 0\.0 is too small; above 0"):
        built(floor=0.0)
