"""The report as a browser shows it: no error, every picture, every section within reach of the keyboard."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from browser import PATH, browser
from plait.diagnose import attention, embeddings, listens
from plait.diagnose.modalities import COLUMN
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
CUT = """(() => {  // text that is outside of the screen, or reached by scrolling to the side only
    const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT), cut = [];
    while (texts.nextNode()) {
        const range = document.createRange(), box = texts.currentNode.parentElement.closest(".scroll");
        range.selectNodeContents(texts.currentNode);
        const place = range.getBoundingClientRect();
        if (place.width && (place.left < 0 || place.right > innerWidth || box?.scrollWidth > box?.clientWidth))
            cut.push(texts.currentNode.data);
    }
    return cut;
})()"""
COVERED = """[...document.querySelectorAll("td, tbody th")].filter(cell => {  // by what stands in the next cell
    const next = cell.nextElementSibling, range = document.createRange();
    range.selectNodeContents(cell);
    const [mine, others] = [range.getBoundingClientRect(), next?.getBoundingClientRect()];
    return next && mine.right > others.left + 1 && mine.bottom > others.top + 1 && mine.top < others.bottom - 1;
}).map(cell => cell.textContent)"""
NAMES = """[...document.querySelectorAll(".stacked td")].map(cell => getComputedStyle(cell, "::before").content)"""
APART = """[...document.querySelectorAll(".gallery")].map(each => {
    const places = [...each.children].map(child => child.getBoundingClientRect());
    const below = places.slice(1).map((place, i) => place.left < places[i].right ? place.top - places[i].bottom : 9);
    return Math.min(...below);
})"""
ONE_LINE = """[...document.querySelectorAll("#data tbody th")].every(cell => {  // no name of a check is broken
    const range = document.createRange();
    range.selectNodeContents(cell);
    return range.getClientRects().length == 1;
})"""
SENTENCES = """[...document.querySelectorAll("#data tbody tr")].map(row => {
    const last = row.lastElementChild, style = getComputedStyle(last);
    return [style.textAlign, style.whiteSpace, last.getBoundingClientRect().width];
})"""
HINT = "getComputedStyle(document.querySelector('#embeddings .hint')).display != 'none'"
MAP = "document.querySelector('#embeddings img').getBoundingClientRect().width"
FILMS = {"listens": listens.FILMS, "attention": attention.FILMS}
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def report(black_wrist, tmp_path_factory):
    """Of all questions, with all that a page can have but the map by UMAP, which takes long to draw."""
    folder, run = tmp_path_factory.mktemp("report"), tmp_path_factory.mktemp("run")
    shares = {COLUMN + name: 0.25 for name in black_wrist.policy.spec.modalities}
    (run / "log.jsonl").write_text("".join(json.dumps({"step": step} | shares) + "\n" for step in (1, 50)))
    subject = replace(black_wrist, episodes=4, dataset=DATASET, run=run, _done={})
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(embeddings.PROJECTIONS, "UMAP")
        for _ in diagnose(subject, folder):
            pass
    return folder / PAGE


@pytest.fixture(scope="module")
def opened(report, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(report.as_uri())
        yield page


def test_every_picture_loads_and_nothing_is_asked_of_the_network(opened):
    shown = opened.run(LOADED)
    assert len(shown) == 4 + FILMS["listens"] + FILMS["attention"] + 1 and all(shown)
    asked = [message["params"]["request"]["url"] for message in opened.messages if "request" in message["params"]]
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_the_console_is_empty(opened):
    noted = [m for m in opened.messages if m["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled")]
    assert noted == []


@pytest.mark.parametrize(("width", "scheme"), [(380, "dark"), (600, "dark"), (1280, "light")])
def test_nothing_sticks_out_on_a_phone_or_a_desk(opened, width, scheme):
    opened.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    opened.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    opened.run(OPENED)
    assert opened.run(TOO_WIDE) == 0
    assert opened.run(CUT) == opened.run(COVERED) == [], "all is read without scrolling"
    assert all((name == "none") == (width == 1280) for name in opened.run(NAMES)), "stacked cells have their names"
    assert min(opened.run(APART)) > 8
    rows = opened.run(SENTENCES)
    assert len(rows) > 10 and all(row[:2] == ["left", "normal"] and row[2] > 250 for row in rows)
    assert opened.run(ONE_LINE)
    assert opened.run(MAP) > 500, "two panels beside each other"
    assert opened.run(HINT) == (width == 380)
    paper = opened.run("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 22, 26)") == (scheme == "dark")


def test_every_section_is_reached_by_keyboard(opened):
    reached = []
    for _ in range(2 * len(QUESTIONS)):
        opened.press("Tab", 9)
        reached.append(opened.run(FOCUSED))
        if reached[-1].startswith("#"):
            opened.press("Enter", 13)
            assert opened.run("location.hash") == reached[-1] and opened.run(ON_SCREEN)
            opened.run(f"document.querySelector('a[href=\"{reached[-1]}\"]').focus()")
    assert [f"#{name}" for name in QUESTIONS] == [link for link in dict.fromkeys(reached) if link.startswith("#")]
    assert any(label.startswith("Map of embeddings") for label in reached), "wide pictures scroll by keyboard"
