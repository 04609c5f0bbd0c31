import torch
from torch import Tensor, nn

from plait.encoders.recall import Recall

WORDS = torch.tensor([[2, 3, 0], [4, 0, 0], [2, 3, 0]])
MASK = torch.tensor([[True, True, False], [True, False, False], [True, True, False]])


class Encoder(nn.Module):
    """An embedding that counts the sentences it had to encode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.encoded = nn.Embedding(9, 4), 0

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        self.encoded += len(words)
        return self.table(words)


def test_each_distinct_sentence_is_encoded_once() -> None:
    encoder = Encoder()
    recall = Recall(encoder)
    first, second = recall(WORDS, MASK, encoder), recall(WORDS.flip(0), MASK.flip(0), encoder)
    assert encoder.encoded == 2
    assert first.equal(encoder.table(WORDS)) and second.equal(first.flip(0))


def test_padding_does_not_make_a_sentence_another_one() -> None:
    encoder = Encoder()
    recall = Recall(encoder)
    recall(WORDS, MASK, encoder)
    recall(torch.where(MASK, WORDS, 7), MASK, encoder)
    assert encoder.encoded == 2
    recall(WORDS, torch.ones_like(MASK), encoder)
    assert encoder.encoded == 4, "number 0 is another word where it is valid"


def test_what_is_remembered_dies_with_the_weights() -> None:
    encoder = Encoder()
    recall = Recall(encoder)
    recall(WORDS, MASK, encoder)
    with torch.inference_mode():
        recall(WORDS, MASK, encoder)
    assert encoder.encoded == 2, "the same weights"
    with torch.no_grad():
        encoder.table.weight.mul_(2)
    assert recall(WORDS, MASK, encoder).equal(encoder.table(WORDS)) and encoder.encoded == 4
    encoder.load_state_dict(Encoder().state_dict())
    assert recall(WORDS, MASK, encoder).equal(encoder.table(WORDS)) and encoder.encoded == 6
    encoder.double()
    assert recall(WORDS, MASK, encoder).dtype == torch.float64


def test_another_number_format_is_another_feature() -> None:
    encoder = Encoder()
    recall = Recall(encoder)
    recall(WORDS, MASK, encoder)
    with torch.autocast("cpu", torch.bfloat16):
        recall(WORDS, MASK, encoder)
    assert encoder.encoded == 4


def test_only_so_many_are_kept_and_the_last_heard_stay() -> None:
    encoder = Encoder()
    recall = Recall(encoder, size=2)
    for sentence in ([1, 1, 1], [2, 2, 2], [1, 1, 1], [3, 3, 3], [1, 1, 1]):
        recall(torch.tensor([sentence]), torch.ones(1, 3, dtype=torch.bool), encoder)
    assert encoder.encoded == 3
    recall(torch.tensor([[2, 2, 2]]), torch.ones(1, 3, dtype=torch.bool), encoder)
    assert encoder.encoded == 4
    many = torch.arange(9).view(9, 1).expand(9, 3)
    assert recall(many, torch.ones(9, 3, dtype=torch.bool), encoder).equal(encoder.table(many)), "more than are kept"


def test_what_was_recalled_in_evaluation_serves_in_training() -> None:
    encoder, layer = Encoder().requires_grad_(False), nn.Linear(4, 1)
    recall = Recall(encoder)
    with torch.inference_mode():
        recall(WORDS, MASK, encoder)
    layer(recall(WORDS, MASK, encoder)).sum().backward()
    assert encoder.encoded == 2 and layer.weight.grad.any()
