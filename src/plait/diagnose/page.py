"""One self-contained HTML page out of small parts: no script, no network, no second file.

Every part is a function from plain values to HTML; ``page`` joins them. Text is escaped; between `backticks` it is set
as code. Charts are tables or lists that a style sheet draws, so that they are read aloud, reflow on a phone and follow
the reader's light or dark setting.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.resources import files
from math import log10

Point = tuple[float, float]
LINES = 5  # kinds of lines in a curve that can be told apart
WIDE = 4  # columns, above which a table does not fit on a phone


@dataclass(frozen=True)
class Interval:
    """A share in percent with its interval, for ``intervals``. ``tone``: "good", "bad" or "plain"."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    tone: str = "good"


@dataclass(frozen=True)
class Animation:
    """A moving picture (WebP) and the still (WebP) that stands for it where the reader wants no motion."""

    moving: bytes
    still: bytes
    alt: str
    caption: str
    good: bool


@dataclass(frozen=True)
class Entry:
    """A line of ``contents``: a question, its answer, the answer's tone as in ``verdict``, and the section that is
    linked; "" where there is none.
    """

    question: str
    answer: str
    tone: str = "plain"
    anchor: str = ""


def page(title: str, verdict: str, lead: str, sections: Iterable[str]) -> str:
    """The whole document: ``verdict`` is the one sentence to remember, ``lead`` what it rests on."""
    style = files("plait.diagnose").joinpath("page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<p class="name">{_BRAID}plait</p>
<h1>{_inline(verdict)}</h1>
<p class="lead">{_inline(lead)}</p>
</header>
<main>
{"".join(sections)}</main>
</body>
</html>
"""


def section(heading: str, *parts: str, anchor: str = "") -> str:
    """``anchor``: its name for links, such as those of ``contents``."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return f"<section{name}>\n<h2>{_inline(heading)}</h2>\n{''.join(parts)}</section>\n"


def contents(entries: Iterable[Entry]) -> str:
    """What the page answers, each with a link to where."""
    return f'<nav aria-label="Questions"><ol class="contents">\n{"".join(map(_entry, entries))}</ol></nav>\n'


def verdict(text: str, tone: str) -> str:
    """The sentence under a heading that the numbers below it support. ``tone``: "good", "bad" or "plain"."""
    return f'<p class="verdict {escape(tone)}">{_inline(text)}</p>\n'


def prose(text: str) -> str:
    """A paragraph."""
    return f"<p>{_inline(text)}</p>\n"


def figures(values: Mapping[str, str]) -> str:
    """A few numbers, large, each over what it is."""
    items = "".join(f"<div><dt>{_inline(name)}</dt><dd>{_inline(value)}</dd></div>\n" for name, value in values.items())
    return f'<dl class="figures">\n{items}</dl>\n'


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], sentences: bool = False) -> str:
    """A table whose first column names the row. It is never wider than the page: on a phone, one of more than ``WIDE``
    columns has its cells below each other, each beside the name of its column.

    ``sentences``: its last column holds such, which are wrapped.
    """
    kind = "sentences" if sentences else "stacked" if len(header) > WIDE else "narrow"
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in header)
    body = "".join(map(partial(_row, header), rows))
    inner = f"<caption>{_inline(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'<table class="{kind}">{inner}</table>\n'


def folded(summary: str, html: str) -> str:
    """``html`` that a click, or a key, on ``summary`` unfolds."""
    return f"<details><summary>{_inline(summary)}</summary>\n{html}</details>\n"


def intervals(caption: str, rows: Iterable[Interval]) -> str:
    """Bars from 0 to 100 %, each with its 95 % interval."""
    body = "".join(map(_interval, rows))
    return f'<table class="intervals"><caption>{_inline(caption)}</caption>\n<tbody>\n{body}</tbody></table>\n'


def curve(caption: str, unit: str, series: Mapping[str, Sequence[Point]], linear: bool = False) -> str:
    """Lines over a common axis. The values stand on a logarithmic scale, and those that are not above 0 are left out;
    ``linear``: on a scale that begins at 0.
    """
    points = [point for line in series.values() for point in line if linear or point[1] > 0]
    if not points:
        return ""
    last = max(x for x, _ in points) or 1
    low, high = 0.0 if linear else min(y for _, y in points), max(y for _, y in points)
    span = max(high if linear else log10(high / low), 1e-9)
    down = (lambda y: (high - y) / span) if linear else lambda y: log10(high / y) / span
    lines, legend = "", ""
    for number, (name, line) in enumerate(series.items()):
        place = (f"{1000 * x / last:.1f},{400 * down(y):.1f}" for x, y in line if linear or y > 0)
        lines += f'<polyline class="line{number % LINES}" points="{" ".join(place)}"/>'
        end = f" {line[-1][1]:.3g}" if line else ""
        legend += f'<li class="line{number % LINES}">{_inline(name)}{end}</li>'
    said = "; ".join(f"{name} from {line[0][1]:.3g} to {line[-1][1]:.3g}" for name, line in series.items() if line)
    return f"""<figure class="curve">
<figcaption>{_inline(caption)}</figcaption>
<ul>{legend}</ul>
<div class="axes"><span class="high">{high:.2g}</span><span class="low">{low:.2g}</span>
<svg viewBox="0 0 1000 400" preserveAspectRatio="none" role="img" aria-label="{escape(said)}">{lines}</svg>
<span class="first">0</span><span class="last">{last:,.0f} {escape(unit)}</span></div>
</figure>
"""


def picture(image: bytes, alt: str, caption: str) -> str:
    """A still picture (WebP), two of whose pixels are one of the page's, such as a plot on a transparent ground. On a
    phone it stays large enough to be read, and scrolls.
    """
    img = f'<img srcset="{_data(image)} 2x" alt="{escape(alt)}" loading="lazy">'
    scrolled = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(alt)}">{img}</div>\n'
    hint = '<span class="hint">It goes on to the right: scroll. </span>'
    return f'<figure class="picture">{scrolled}<figcaption>{hint}{_inline(caption)}</figcaption></figure>\n'


def gallery(animations: Iterable[Animation], wide: bool = False) -> str:
    """Moving pictures beside each other; still where the reader prefers reduced motion. ``wide``: with much in them."""
    name = "gallery wide" if wide else "gallery"
    return f'<ul class="{name}">\n{"".join(map(_animation, animations))}</ul>\n'


def commands(lines: Iterable[tuple[str, str]]) -> str:
    """What one may type next: (what it does, the command)."""
    items = "".join(
        f"<dt>{_inline(what)}</dt><dd><pre><code>{escape(line)}</code></pre></dd>\n" for what, line in lines
    )
    return f'<dl class="commands">\n{items}</dl>\n'


def _row(header: Sequence[str], cells: Sequence[str]) -> str:
    first, *rest = cells
    named = zip(header[1:], rest, strict=True)
    columns = "".join(f'<td data-column="{escape(name)}">{_inline(cell)}</td>' for name, cell in named)
    return f'<tr><th scope="row">{_inline(first)}</th>{columns}</tr>\n'


def _entry(row: Entry) -> str:
    link = f'<a href="#{escape(row.anchor)}">{_inline(row.question)}</a>' if row.anchor else _inline(row.question)
    return f'<li class="{escape(row.tone)}">{link}<p>{_inline(row.answer)}</p></li>\n'


def _interval(row: Interval) -> str:
    note = f"<small>{_inline(row.note)}</small>" if row.note else ""
    place = f"--value:{row.value:.1f};--low:{row.low:.1f};--high:{row.high:.1f}"
    return f"""<tr class="{escape(row.tone)}"><th scope="row">{_inline(row.label)}{note}</th>
<td class="bar"><div style="{place}"></div></td>
<td class="value">{row.value:.0f}<small>&#8201;% <span>({row.low:.0f}–{row.high:.0f})</span></small></td></tr>
"""


def _animation(shown: Animation) -> str:
    outcome = '<b class="good">success</b>' if shown.good else '<b class="bad">failure</b>'
    return f"""<li><figure>
<picture><source media="(prefers-reduced-motion: reduce)" srcset="{_data(shown.still)}">
<img src="{_data(shown.moving)}" alt="{escape(shown.alt)}" loading="lazy"></picture>
<figcaption>{outcome} {_inline(shown.caption)}</figcaption>
</figure></li>
"""


def _data(picture: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(picture).decode()}"


def _inline(text: str) -> str:
    together = re.sub(r"(?<=\d) (?=%|min\b|s\b)", "\u00a0", escape(text, quote=False))  # a number keeps its unit
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", together)


_BRAID = (
    '<svg class="braid" viewBox="0 0 36 20" aria-hidden="true">'
    '<path d="M1 4C10 4 8 16 18 16S26 4 35 4"/><path d="M1 10C6 10 6 4 12 4S18 10 24 10 30 16 35 16"/>'
    '<path d="M1 16C8 16 8 10 13 10S20 4 25 4 30 10 35 10"/></svg>'
)
