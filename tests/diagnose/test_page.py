"""The page is well-formed, self-contained and accessible; what it is given stands in it."""

import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from plait.diagnose import page

VOID = {"meta", "img", "source", "path", "polyline"}


class Reader(HTMLParser):
    """Checks that elements nest, and collects tags, attributes and text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(document)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def webp() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "webp")
    return file.getvalue()


@pytest.fixture(scope="module")
def document() -> str:
    animation = page.Animation(webp(), webp(), 'told "lift <it>"', "“lift it”", good=False)
    return page.page(
        "A <report>",
        "It works & obeys",
        "Run `plait list`",
        [
            page.section("One", page.prose("text"), page.intervals("shares", [page.Interval("Success", 96, 92.3, 98)])),
            page.section("Two", page.curve("Loss", "updates", {"training": [(1, 1.0), (10, 0.1)], "held out": []})),
            page.section(
                "Three", page.table("Numbers", ["what", "n"], [("a", "1"), ("b", "2")]), page.gallery([animation])
            ),
            page.section(
                "Four", page.figures({"processor": "2 × CPU"}), page.commands([("more", 'plait act "a & b"')])
            ),
        ],
    )


def test_elements_nest_and_the_headings_are_an_outline(document):
    reader = Reader(document)
    assert len(reader.all("h1")) == 1
    assert len(reader.all("h2")) == 4
    assert reader.all("html")[0]["lang"] == "en"
    assert "A <report>" in reader.text
    assert "It works & obeys" in reader.text


def test_nothing_is_loaded_from_elsewhere(document):
    reader = Reader(document)
    sources = [a[key] or "" for _, a in reader.tags for key in ("src", "srcset", "href", "data") if key in a]
    assert sources
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert "url(" not in document
    assert "@import" not in document
    assert not reader.all("script")
    assert "default-src 'none'" in document


def test_pictures_have_words_and_a_still_for_those_who_want_no_motion(document):
    reader = Reader(document)
    assert reader.all("img")[0]["alt"] == 'told "lift <it>"'
    assert reader.all("source")[0]["media"] == "(prefers-reduced-motion: reduce)"
    assert "failure" in reader.text


def test_charts_can_be_read_aloud(document):
    reader = Reader(document)
    (chart,) = [a for a in reader.all("svg") if a.get("role") == "img"]
    assert chart["aria-label"] == "training from 1 to 0.1"
    assert "96" in reader.text
    assert "(92–98)" in reader.text


def test_the_logarithmic_scale_spans_the_plot():
    drawn = page.curve("Loss", "updates", {"a": [(0, 1.0), (50, 0.1), (100, 0.01)]})
    assert 'points="0.0,0.0 500.0,200.0 1000.0,400.0"' in drawn


def test_a_curve_without_points_is_nothing():
    assert page.curve("Loss", "updates", {"a": []}) == ""
    assert "polyline" in page.curve("Loss", "updates", {"a": [(3, 0.5)]})


def test_a_linear_scale_begins_at_zero_and_lines_differ():
    drawn = page.curve("Share", "updates", {name: [(0, 0.0), (10, 0.5)] for name in "abcdef"}, linear=True)
    assert drawn.count('points="0.0,400.0 1000.0,0.0"') == 6
    assert [f'polyline class="line{i}"' in drawn for i in range(6)] == [True] * 5 + [False]


def test_contents_lead_to_the_sections():
    entries = [page.Entry("Does it <work>?", "It does.", "good", "works"), page.Entry("Later", "not yet")]
    reader = Reader(page.page("t", "v", "l", [page.contents(entries), page.section("It", "", anchor="works")]))
    assert [link["href"] for link in reader.all("a")] == ["#works"]
    assert reader.all("section")[0]["id"] == "works"
    assert "Does it <work>?" in reader.text and reader.all("li")[0]["class"] == "good"


def test_the_cells_of_a_table_of_many_columns_have_the_name_of_theirs():
    rows = [["a", "1", "2", "3", "4"]]
    reader = Reader(page.table("Numbers", ["what", "one", "two", "more & more", ""], rows))
    assert reader.all("table")[0]["class"] == "stacked"
    assert [cell["data-column"] for cell in reader.all("td")] == ["one", "two", "more & more", ""]
    assert 'class="narrow"' in page.table("Numbers", ["what", "n"], [["a", "1"]])


def test_code_and_markup_in_text_are_set_and_escaped():
    assert page.prose("run `a <b>` & go") == "<p>run <code>a &lt;b&gt;</code> &amp; go</p>\n"
    assert "plait act &quot;a &amp; b&quot;" in page.commands([("more", 'plait act "a & b"')])


def test_a_number_keeps_its_unit():
    assert page.prose("95 % in 4 min 12 s") == "<p>95\u00a0% in 4\u00a0min 12\u00a0s</p>\n"


def test_both_colour_schemes_are_styled(document):
    assert "@media (prefers-color-scheme: dark)" in document
    assert "width=device-width" in document
