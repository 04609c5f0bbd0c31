"""Parts of other packages: found when they are installed, refused when they are not, never imported on demand.

What trains with such a part runs in a process of its own: the types that tests check are those of plait's own unions.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plait
from plait.config import installed, members
from plait.fusion import FilmConfig, Fusion

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs/add-a-part.md").read_text(encoding="utf-8")
COMMAND = "train tabletop-pick --dataset d --out run --fusion joint --fusion.layers 1 --image-size 16"
LOADED = """
import plait, torch
policies = [plait.load("run"), plait.load("run")]
inputs = policies[0].prepare(plait.types.Observation({}, None, ["pick up the red ball"]))
assert torch.equal(*(policy.predict(inputs) for policy in policies))
print(type(policies[0].fusion).__module__, policies[0].config.fusion)
"""


def put(site: Path, module: str, code: str, slot: str, **named: str) -> None:
    """A package as pip leaves it: a module, and the entry points that it names."""
    told = site / f"{module}-0.1.dist-info"
    told.mkdir(parents=True)
    (site / f"{module}.py").write_text(code, encoding="utf-8")
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
    lines = [f"{name} = {place}" for name, place in named.items()]
    (told / "entry_points.txt").write_text("\n".join([f"[plait.{slot}]", *lines, ""]))


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder / "site")}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the fusion of the page on adding a part, which is in a package of its own, in ``site``."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(HERE / "fixtures/lerobot_v3_images", folder / "d")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (entry,) = re.findall(r'joint = "my_package\.joint:(\w+)"', PAGE)
    put(folder / "site", "joint_fusion", code, "fusion", joint=f"joint_fusion:{entry}")
    run(folder, "-m", "plait", *COMMAND.split(), "--train.steps", "2", "--train.batch-size", "8")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages on the path of this process."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    installed.cache_clear()
    yield tmp_path / "site"
    installed.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_part_of_another_package_is_listed_trained_and_loaded(trained: Path) -> None:
    listed = run(trained, "-m", "plait", "list", "fusions")
    assert "--fusion joint            All tokens attend to all tokens; one token per modality" in listed
    assert run(trained, "-c", LOADED) == "joint_fusion JointConfig(width=96, heads=4, layers=1)\n"


def test_a_checkpoint_with_a_part_that_is_not_installed_is_refused_in_a_sentence(trained: Path, site: Path) -> None:
    site.mkdir()
    shutil.copy(trained / "site/joint_fusion.py", site)  # a module that could be imported, but that names no parts
    sentence = r"policy\.fusion: no part 'joint'; choose .*A part of another package is there once that is installed"
    with pytest.raises(ValueError, match=sentence):
        plait.load(trained / "run")
    assert "joint_fusion" not in sys.modules


@pytest.mark.parametrize("name", ["trap", "trap:TrapConfig", "trap.TrapConfig", "../trap"])
def test_no_checkpoint_has_a_module_imported(trained: Path, site: Path, tmp_path: Path, name: str) -> None:
    put(site, "trap", "raise SystemExit('imported')", "nothing", trap="trap:TrapConfig")
    checkpoint = shutil.copytree(next(trained.glob("run/checkpoints/*")), tmp_path / "c")
    told = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    told["policy"]["fusion"] = {"type": name}
    (checkpoint / "config.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ValueError, match=f"no part '{re.escape(name)}'"):
        plait.load(checkpoint)
    assert "trap" not in sys.modules


FAULTS = {
    "broken": ("import nothing_of_this_name", "broken:BrokenConfig", "ModuleNotFoundError: No module named"),
    "gone": ("", "gone:GoneConfig", "AttributeError"),
    "plain": ("class PlainConfig: ...", "plain:PlainConfig", "must be a config class that is called 'plain'"),
    "other": (
        "from dataclasses import dataclass\n@dataclass\nclass MineConfig: ...",
        "other:MineConfig",
        "must be a config class that is called 'other'",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_part_that_cannot_be_used_is_left_out_with_a_warning(site: Path, name: str) -> None:
    code, place, reason = FAULTS[name]
    put(site, name, code, "fusion", **{name: place})
    with pytest.warns(UserWarning, match=f"fusion '{name}' of another package is left out .*{reason}"):
        found = members(Fusion, "fusion")
    assert found == members(Fusion), "plait's own are there"


def test_a_name_of_plaits_own_stays_its_own_and_a_slot_has_only_its_own_parts(site: Path) -> None:
    code = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass FilmConfig: ..."
    put(site, "films", code, "fusion", film="films:FilmConfig")
    assert members(Fusion, "fusion")["film"] is FilmConfig
    assert members(Fusion) == members(Fusion, "head") and installed("head") == {}
