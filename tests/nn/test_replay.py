import pytest
import torch

from plait.nn.replay import WARM_UP, Replay


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_replay_gives_what_the_function_gives_and_keeps_nothing() -> None:
    layer = torch.nn.Linear(4, 2, device="cuda")
    replay = Replay(lambda x: {"sum": layer(x["a"]) + x["b"]})
    inputs = [
        {"a": torch.randn(3, 4, device="cuda"), "b": torch.randn(3, 2, device="cuda")} for _ in range(WARM_UP + 3)
    ]
    with torch.inference_mode():
        outputs = [replay(given)["sum"] for given in inputs]
        for given, found in zip(inputs, outputs, strict=True):  # the later calls have not overwritten the earlier ones
            torch.testing.assert_close(found, layer(given["a"]) + given["b"])
