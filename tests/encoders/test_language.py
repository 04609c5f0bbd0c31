import pytest
import torch

from plait.config import members
from plait.encoders.language import Language, LstmConfig
from plait.encoders.tokenizer import Tokenizer
from policies import part


@pytest.mark.parametrize("name", members(Language))
def test_word_order_matters_and_padding_does_not(name: str) -> None:
    config, _ = part("language", name).resolve(Tokenizer.build([]))
    encoder = config.build(vocabulary=10, length=6).eval()
    mask = torch.arange(6)[None] < 4
    words = torch.tensor([[2, 3, 4, 5, 0, 0]])
    tokens = encoder(words, mask)
    assert tokens.data.shape == (1, encoder.shape.n, encoder.shape.dim)
    padded_otherwise = encoder(torch.tensor([[2, 3, 4, 5, 7, 8]]), mask)
    torch.testing.assert_close(padded_otherwise.data[:, :4], tokens.data[:, :4])
    swapped = encoder(torch.tensor([[2, 4, 3, 5, 0, 0]]), mask)
    assert not torch.allclose(swapped.data[:, 3], tokens.data[:, 3], atol=1e-5)


def test_lstm_agrees_with_packing() -> None:
    encoder = LstmConfig().build(vocabulary=10, length=6)
    words, lengths = torch.tensor([[2, 3, 4, 5, 0, 0], [6, 7, 0, 0, 0, 0]]), torch.tensor([4, 2])
    packed = torch.nn.utils.rnn.pack_padded_sequence(encoder.embedding(words), lengths, batch_first=True)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(encoder.lstm(packed)[0], batch_first=True)
    mask = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(encoder(words, mask).data[:, :4][mask[:, :4]], encoder.norm(expected)[mask[:, :4]])
