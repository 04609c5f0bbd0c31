import json
from pathlib import Path

import pytest

from plait.cli import main
from plait.compare.cost import SIZES
from plait.diagnose import cost


def test_the_table_has_each_fusion_at_both_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "FEWEST", 2), monkeypatch.setattr(cost, "SECONDS", 0.0)
    chosen = ["late", "cross-attention"]
    assert main(["compare", "--cost", "--device", "cpu", "--out", str(tmp_path / "new"), "--fusion", *chosen]) == 0
    shown = capsys.readouterr().out
    costs = json.loads((tmp_path / "new/cost.json").read_text())
    assert list(costs) == list(SIZES) and all(size in shown for size in SIZES)
    small, large = (costs[size]["cross_attention"] for size in SIZES)
    assert shown.count("cross_attention") == 2 and f"{small['parameters'] / 1e6:.2f} M" in shown
    assert large["flops"] > 3 * small["flops"] and large["peak_bytes"] > small["peak_bytes"] > 0
