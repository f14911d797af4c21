# SPDX-License-Identifier: Apache-2.0
"""The report: one file, nothing loaded from elsewhere, no text of a stranger runs."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from unilogit_jax.run import (
    AnswerRow,
    AttackRow,
    Facts,
    MetricRow,
    Picture,
    Report,
    StageCost,
    plot_bars,
    write_report,
)

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


def full_report(text, picture):
    """A report with everything, and this text wherever a stranger's may stand."""
    columns, facts = ["before", text], Facts(text, [(text, text)], text)
    return {
        "title": text,
        "verdict": text,
        "dated": text,
        "request": [facts],
        "columns": columns,
        "metric_rows": [
            MetricRow(text, text, "lower", dict.fromkeys(columns, text), {"before": text})
        ],
        "metric_note": text,
        "attack_rows": [AttackRow(text, text, text, text, dict.fromkeys(columns, text))],
        "attack_columns": columns,
        "attack_settings": text,
        "answers": [AnswerRow("forget", text, text, dict.fromkeys(columns, text), {text: True})],
        "answers_note": text,
        "pictures": [Picture(text, picture, text)],
        "stages": [StageCost(text, 1.0, text)],
        "cost": facts,
        "provenance": [facts],
        "files": [(text, text)],
        "next_commands": [text],
        "config_yaml": text,
        "caveats": [text],
        "warnings": [text],
    }


def test_texts_are_escaped_wherever_they_stand(tmp_path):
    plot_bars(tmp_path / "b.png", {"m": {"after": 0.5}}, {})
    page = Page(render(tmp_path, **full_report(EVIL, tmp_path / "b.png")))
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 1
    assert page.text.count("<script>alert('x')</script>") >= 45


def test_the_page_loads_nothing(tmp_path):
    plot_bars(tmp_path / "b.png", {"m": {"after": 0.5}}, {})
    html = render(tmp_path, pictures=[Picture("bars", tmp_path / "b.png", "bars of m")])
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
            MetricRow(
                "forget probability",
                "of the true answer",
                "like gold",
                {"after": "0.021"},
                {"after": "[0.01, 0.03]"},
            )
        ],
        attack_rows=[
            AttackRow("relearn", "20 updates", "forget ROUGE-L", "lower", {"after": "0.4"})
        ],
        attack_columns=["after", "gold"],
        attack_settings="seed 0",
        request=[Facts("Rows", [("rows to forget", "128")], "A digest.")],
        provenance=[Facts("Versions", [("jax", "0.10")])],
        cost=Facts("Devices", [("devices", "1 x cpu")]),
        pictures=[Picture("Bars", tmp_path / "none.png", "bars")],
        answers=[
            AnswerRow("retain", "Who?", "Ines", {"before": "Ines", "after": ""}, {"after": True}),
        ],
        stages=[StageCost("unlearning", 30.0, "70 updates"), StageCost("evaluating", 10.0)],
        files=[("summary.json", "the numbers")],
        next_commands=["unilogit compare a b"],
        config_yaml="seed: 0",
        caveats=["a toy"],
        warnings=["few rows"],
    )
    text = Page(html).text
    for words in (
        "✓ Passed It forgot.",
        "forget probability≈ like gold is bestof the true answer –0.021[0.01, 0.03]–",
        "relearn, 20 updates↓ lower is betterforget ROUGE-L 0.4–",
        "What attempts to bring the forgotten back achieve. seed 0",
        "Rows A digest. rows to forget128",
        "Versions jax0.10",
        "Devices devices1 x cpu",
        "unlearning30.0 s70 updates",
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
    page = Page(render(tmp_path, pictures=[Picture("lost", tmp_path / "none.png", "")]))
    assert "This picture's file is missing." in page.text
    assert "img" not in page.tags


def test_answers_may_hold_any_character(tmp_path):
    answer = "\ud800 \x1b[31m 日本語 \x00 {{ 7 * 7 }} {% x %}"
    answers = [AnswerRow("forget", "q", "t", {"after": answer})]
    html = render(tmp_path, columns=["after"], answers=answers)
    assert "日本語" in html
    assert "{{ 7 * 7 }} {% x %}" in html
    assert "\x1b" not in html


def test_the_page_has_rules_for_phones_dark_screens_and_paper(tmp_path):
    html = render(tmp_path)
    assert 'name="viewport"' in html
    assert "screen and (prefers-color-scheme: dark)" in html, "paper is white"
    assert "screen and (max-width: 40rem)" in html
    assert "@media print" in html


PROBE = """<body style="margin:0"><iframe src="report.html"
style="border:0;width:360px;height:800px"></iframe>
<script>
addEventListener("load", () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument;
  const wide = [...page.querySelectorAll(".wide")].filter(e => e.scrollWidth > e.clientWidth);
  const image = page.querySelector("img");
  const found = {
    width: page.documentElement.scrollWidth,
    sideways: wide.map(e => e.textContent.slice(0, 200)),
    image: image.naturalWidth,
    ink: frame.contentWindow.getComputedStyle(page.body).color,
  };
  document.body.setAttribute("data-found", btoa(encodeURIComponent(JSON.stringify(found))));
});
</script>"""
"""The page in a frame as wide as a small phone, and what is to be seen there."""

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def opened(folder, *switches):
    """What a browser says of the page in a phone's frame."""
    (folder / "probe.html").write_text(PROBE)
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom"),
        *(f"--user-data-dir={folder / 'profile'}", *switches, (folder / "probe.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (coded,) = re.findall(r'data-found="([^"]+)"', done.stdout)
    return json.loads(unquote(base64.b64decode(coded).decode()))


def test_nothing_sticks_out_of_a_phone(tmp_path):
    long = "https_//" + "unbroken" * 40  # an address, a digest, a token of a strange model
    plot_bars(tmp_path / "b.png", {"m": {"after": 0.5}}, {})
    html = render(tmp_path, **full_report(long, tmp_path / "b.png"))
    page = Page(html)
    assert not [a for a in page.attributes if a[1] in ("href", "src") and a[2][:5] != "data:"]
    assert "script" not in page.tags
    if BROWSER is None:
        # The rules that it takes, at least.
        assert html.count("overflow-wrap: anywhere") > 10 and "minmax(0, 1fr)" in html
        return
    light = opened(tmp_path)
    assert light["width"] <= 360 and light["sideways"] == []
    assert light["image"] > 360, "the picture was shown, and sharp"
    dark = opened(tmp_path, "--blink-settings=preferredColorScheme=0")
    assert dark["width"] <= 360 and dark["ink"] != light["ink"]
