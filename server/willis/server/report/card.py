"""The model card of a release as a part of the report: Markdown in, HTML out, nothing of it trusted."""

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_PLACES = ("docs/README.md", "README.md")  # of a bundle, and of releases before 0.6
_BELOW = 2  # the card's first heading stands below the report's second


def card_of(release: Path) -> Markup:
    """Return a release's model card as HTML: headings in the report's order, tables with id and caption.

    HTML in the card is shown as text, never as HTML: a site's or a study's name may be in it. Links become
    text: the page leads nowhere.

    Args:
        release: A release's folder, read and found sound.

    Returns:
        Empty where the release has no card.
    """
    for place in _PLACES:
        if (release / place).is_file():
            return card_html((release / place).read_text(encoding="utf-8"))
    return Markup("")


def card_html(markdown: str) -> Markup:
    """Return Markdown as HTML; see :func:`card_of`. Front matter, which is for machines, is left out."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"])
    tokens = reader.parse(re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.S))
    return Markup(reader.renderer.render(list(_fitted(tokens)), reader.options, {}))


def _fitted(tokens: list[Token]) -> Iterator[Token]:
    """Yield the tokens with headings lowered, and tables that scroll and can be told of."""
    tables, heading = 0, "Model card"
    for at, token in enumerate(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + _BELOW)}"
            heading = tokens[at + 1].content if token.type == "heading_open" else heading
        if token.type == "table_open":
            tables += 1
            token.attrSet("id", f"card-table-{tables}")
            scroll = Markup('<div class="scroll" role="region" tabindex="0" aria-label="Model card: {}">')
            yield from (_html(scroll.format(heading)), token)
            yield _html(Markup("<caption><span>{}</span></caption>").format(heading))
        elif token.type == "table_close":
            yield from (token, _html("</div>"))
        else:
            if token.type == "th_open":
                token.attrSet("scope", "col")
            yield token


def _html(text: str) -> Token:
    return Token("html_block", "", 0, content=text)
