"""The report as a browser shows it: no error, every picture, every section within reach of the keyboard."""

from dataclasses import replace
from pathlib import Path

import pytest

from browser import PATH, browser
from plait.diagnose.report import PAGE, QUESTIONS, diagnose

DATASET = Path(__file__).parents[1] / "fixtures" / "lerobot_v3_images"
pytestmark = pytest.mark.skipif(PATH is None, reason="no Chromium here; apt-get install chromium")

LOADED = """Promise.all([...document.images].map(async image => {
    image.loading = "eager";
    await image.decode();
    return image.naturalWidth > 0;
}))"""
FOCUSED = "document.activeElement.getAttribute('href') || document.activeElement.getAttribute('aria-label') || ''"
ON_SCREEN = "Math.abs(document.querySelector(location.hash).getBoundingClientRect().top) < innerHeight"
OPENED = "document.querySelectorAll('details').forEach(each => each.open = true)"
CUT = """[...document.querySelectorAll("main *")].filter(each => {
    const words = [...each.childNodes].map(node => node.nodeType == 3 ? node.data.trim().split(/\\s+/).length : 0);
    if (Math.max(0, ...words) <= 8) return false;
    const [box, within] = [each.closest(".scroll"), each.getBoundingClientRect()];
    return box?.scrollWidth > box?.clientWidth || within.right > innerWidth || each.scrollWidth > each.clientWidth + 1
        && getComputedStyle(each).display != "inline";
}).map(each => each.textContent)"""
SENTENCES = """[...document.querySelectorAll("#data tbody tr")].map(row => {
    const last = row.lastElementChild, style = getComputedStyle(last);
    return [style.textAlign, style.whiteSpace, last.getBoundingClientRect().width];
})"""
HINT = "getComputedStyle(document.querySelector('#embeddings .hint')).display != 'none'"
MAP = "document.querySelector('#embeddings img').getBoundingClientRect().width"
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(black_wrist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    subject = replace(black_wrist, episodes=4, dataset=DATASET, _done={})
    for _ in diagnose(subject, folder, ["works", "embeddings", "costs", "data"]):
        pass
    return folder / PAGE


@pytest.fixture(scope="module")
def opened(report, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(report.as_uri())
        yield page


def test_every_picture_loads_and_nothing_is_asked_of_the_network(opened):
    shown = opened.run(LOADED)
    assert len(shown) >= 5 and all(shown)
    asked = [message["params"]["request"]["url"] for message in opened.messages if "request" in message["params"]]
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_the_console_is_empty(opened):
    noted = [m for m in opened.messages if m["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled")]
    assert noted == []


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_nothing_sticks_out_on_a_phone_or_a_desk(opened, width, scheme):
    opened.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    opened.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    opened.run(OPENED)
    assert opened.run(TOO_WIDE) == 0
    assert opened.run(CUT) == [], "sentences are read without scrolling"
    rows = opened.run(SENTENCES)
    assert len(rows) > 10 and all(row[:2] == ["left", "normal"] and row[2] > 250 for row in rows)
    assert opened.run(MAP) > 600, "two panels beside each other"
    assert opened.run(HINT) == (width == 390)
    paper = opened.run("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 22, 26)") == (scheme == "dark")


def test_every_section_is_reached_by_keyboard(opened):
    reached = []
    for _ in range(30):
        opened.press("Tab", 9)
        reached.append(opened.run(FOCUSED))
        if reached[-1].startswith("#"):
            opened.press("Enter", 13)
            assert opened.run("location.hash") == reached[-1] and opened.run(ON_SCREEN)
            opened.run(f"document.querySelector('a[href=\"{reached[-1]}\"]').focus()")
    assert [f"#{name}" for name in QUESTIONS if name in ("works", "embeddings", "costs", "data")] == [
        link for link in dict.fromkeys(reached) if link.startswith("#")
    ]
    assert "What each part costs" in reached, "wide tables scroll by keyboard"
