# SPDX-License-Identifier: Apache-2.0
"""The report: one file, nothing loaded from elsewhere, no text of a stranger runs."""

import base64
import re
from html.parser import HTMLParser

import pytest

from unilogit_jax.run import AnswerRow, MetricRow, Report, plot_bars, write_report

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed."""

    VOID = ("meta", "img")

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self.stack = [], [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def render(tmp_path, **fields):
    path = tmp_path / "report.html"
    write_report(path, Report(**{"title": "toy", "verdict": "It forgot."} | fields))
    return path.read_text(encoding="utf-8")


def evil_report(picture):
    return {
        "title": EVIL,
        "verdict": EVIL,
        "columns": ["before", EVIL],
        "metric_rows": [MetricRow(EVIL, EVIL, "lower", {"before": EVIL, EVIL: EVIL})],
        "answers": [AnswerRow("forget", EVIL, EVIL, {"before": EVIL, EVIL: EVIL}, {EVIL: True})],
        "plots": [(EVIL, picture)],
        "stage_times": {EVIL: 1.0},
        "files": [(EVIL, EVIL)],
        "next_commands": [EVIL],
        "config_yaml": EVIL,
        "caveats": [EVIL],
        "warnings": [EVIL],
    }


def test_texts_are_escaped_wherever_they_stand(tmp_path):
    plot_bars(tmp_path / "b.png", {"m": {"after": 0.5}}, {})
    page = Page(render(tmp_path, **evil_report(tmp_path / "b.png")))
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 1
    assert page.text.count("<script>alert('x')</script>") >= 15


def test_the_page_loads_nothing(tmp_path):
    plot_bars(tmp_path / "b.png", {"m": {"after": 0.5}}, {})
    html = render(tmp_path, plots=[("bars", tmp_path / "b.png")])
    page = Page(html)
    addresses = [v for _, name, v in page.attributes if name in ("src", "href", "action")]
    assert len(addresses) == 1
    assert addresses[0].startswith("data:image/png;base64,")
    inlined = base64.b64decode(addresses[0].partition(",")[2])
    assert inlined == (tmp_path / "b.png").read_bytes()
    assert not re.search(r"https?://|@import|url\(", html)


def test_the_page_shows_everything_it_was_given(tmp_path):
    html = render(
        tmp_path,
        passed=True,
        columns=["before", "after", "gold"],
        metric_rows=[
            MetricRow("forget probability", "of the true answer", "like gold", {"after": "0.021"})
        ],
        answers=[
            AnswerRow("retain", "Who?", "Ines", {"before": "Ines", "after": ""}, {"after": True}),
        ],
        stage_times={"unlearning": 30.0, "evaluating": 10.0},
        files=[("summary.json", "the numbers")],
        next_commands=["unilogit compare a b"],
        config_yaml="seed: 0",
        caveats=["a toy"],
        warnings=["few rows"],
    )
    text = Page(html).text
    for words in (
        "✓ Passed It forgot.",
        "forget probability≈ like gold is bestof the true answer –0.021–",
        "To keep",
        "after(nothing)⚠ malformed",
        "all40.0 s",
        "summary.json",
        "unilogit compare a b",
        "seed: 0",
        "a toy",
        "few rows",
    ):
        assert words in text, words
    assert "To forget" not in text


@pytest.mark.parametrize(
    ("passed", "words"), [(True, "✓ Passed"), (False, "✗ Not passed"), (None, None)]
)
def test_the_verdict_is_said_in_words_not_in_colour_alone(tmp_path, passed, words):
    text = Page(render(tmp_path, passed=passed)).text
    assert words in text if words else "assed" not in text


def test_empty_parts_have_no_heading(tmp_path):
    assert "h2" not in Page(render(tmp_path)).tags


def test_a_missing_picture_is_said_and_stops_nothing(tmp_path):
    page = Page(render(tmp_path, plots=[("lost", tmp_path / "none.png")]))
    assert "This picture's file is missing." in page.text
    assert "img" not in page.tags


def test_answers_may_hold_any_character(tmp_path):
    answer = "\ud800 \x1b[31m 日本語 \x00 {{ 7 * 7 }} {% x %}"
    answers = [AnswerRow("forget", "q", "t", {"after": answer})]
    html = render(tmp_path, columns=["after"], answers=answers)
    assert "日本語" in html
    assert "{{ 7 * 7 }} {% x %}" in html
    assert "\x1b" not in html


def test_the_page_fits_phones_and_dark_screens(tmp_path):
    html = render(tmp_path)
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert "max-width: 40rem" in html
