import torch

from plait.nn.decoder import Context, DecoderLayers
from plait.types import Shape, Tokens

X = torch.randn(2, 5, 16)
CONTEXT = Tokens(torch.randn(2, 3, 16), torch.tensor([[True, True, True], [True, False, False]]))
CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril().expand(2, -1, -1)


def test_one_token_after_another_gives_the_same_as_all_at_once() -> None:
    layers = DecoderLayers(1, 16, 4)
    layer, (read,) = layers[0], layers.read(CONTEXT)
    together = layer(X, X, CAUSAL, read)
    for n in range(1, 6):
        seen = X[:, :n]
        one = layer(seen[:, -1:], seen, None, read)
        torch.testing.assert_close(one[:, 0], together[:, n - 1])


def test_padding_of_the_context_takes_no_part() -> None:
    embed, layers = Context(Shape(3, 8), 16), DecoderLayers(1, 16, 4)
    tokens = Tokens(torch.randn(2, 3, 8), CONTEXT.mask)
    poisoned = Tokens(tokens.data.masked_fill(~tokens.mask[..., None], torch.nan), tokens.mask)
    clean, dirty = (layers[0](X, X, CAUSAL, *layers.read(embed(each))) for each in (tokens, poisoned))
    torch.testing.assert_close(dirty, clean)


def test_the_context_is_marked_with_its_place() -> None:
    embed = Context(Shape(3, 8), 16)
    data = embed(Tokens(torch.ones(1, 3, 8), torch.ones(1, 3, dtype=torch.bool))).data
    assert not torch.allclose(data[:, 0], data[:, 1])
