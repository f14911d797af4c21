# SPDX-License-Identifier: Apache-2.0
"""The console: plain lines off a terminal, bars on one, all of it in the log."""

import io
import re

import pytest

from unilogit_jax.run import Console, stage


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """A clock that stands still until told."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stage, "time", clock)
    return clock


def test_plain_lines_when_not_a_terminal(clock):
    out = io.StringIO()
    c = Console(stream=out)
    c.title("unilogit [0.1.0]")
    with c.stage("unlearning", total=3) as stage:
        stage.note("compiling the step ... 14.2 s (once)")
        for step in (1, 2, 3):
            clock.now += 4.0
            stage.update(step, loss=0.5, tok_per_s=18432.0)
    assert out.getvalue().splitlines() == [
        "unilogit [0.1.0]",
        "  compiling the step ... 14.2 s (once)",
        "unlearning  1/3  loss 0.5  tok/s 18.4k",
        "unlearning  3/3  loss 0.5  tok/s 18.4k  eta 0.0 s",
        "unlearning  3/3  loss 0.5  tok/s 18.4k  done in 12.0 s",
    ]
    assert "\x1b" not in out.getvalue()


def test_fast_steps_print_at_most_one_line_every_few_seconds(clock):
    out = io.StringIO()
    with Console(stream=out).stage("unlearning", total=10_000) as stage:
        for step in range(1, 10_001):
            clock.now += 0.001
            stage.update(step, loss=0.5)
    assert len(out.getvalue().splitlines()) <= 4


def test_device_arrays_are_read_only_when_they_are_shown(clock):
    class Number:
        reads = 0

        def __float__(self):
            Number.reads += 1
            return 1.0

    with Console(stream=io.StringIO()).stage("unlearning", total=100) as stage:
        for step in range(1, 101):
            stage.update(step, loss=Number())
    assert Number.reads <= 2


def test_the_time_left_does_not_count_the_first_step(clock):
    out = io.StringIO()
    with Console(stream=out).stage("unlearning", total=21) as stage:
        clock.now += 100.0
        stage.update(1)
        clock.now += 10.0
        stage.update(11)
    assert "unlearning  11/21  eta 10.0 s" in out.getvalue()


def test_amounts_are_shown_in_megabytes_and_only_if_they_take_a_while(clock):
    out = io.StringIO()
    with Console(stream=out).stage("reading") as stage:
        stage.amount(1_000_000, 5_000_000)
        clock.now += 2.0
        stage.amount(4_000_000, 5_000_000)
    assert out.getvalue().splitlines() == [
        "reading ...",
        "reading  4/5 MB  MB/second 1.5  eta 0.7 s",
        "reading  4/5 MB  MB/second 1.5  done in 2.0 s",
    ]


def test_items_have_a_pace_and_each_part_of_a_stage_its_own(clock):
    out = io.StringIO()
    with Console(stream=out).stage("evaluating") as stage:
        for what, done, total in (("texts", 10, 30), ("texts", 20, 30), ("answers", 1, 9)):
            clock.now += 10.0  # the first of each part compiles
            stage.items(what, done, total)
        clock.now += 5.0
        stage.items("answers", 5, 9)
    assert out.getvalue().splitlines() == [
        "evaluating ...",
        "evaluating  10/30 texts",
        "evaluating  20/30 texts  texts/second 1  eta 10.0 s",
        "evaluating  1/9 answers",
        "evaluating  5/9 answers  answers/second 0.8  eta 5.0 s",
        "evaluating  5/9 answers  answers/second 0.8  done in 35.0 s",
    ]


def test_quiet_prints_nothing_but_logs_all(tmp_path, capsys):
    c = Console(tmp_path / "log.txt", quiet=True)
    c.title("title")
    c.line("line")
    c.warn("careful")
    with c.stage("loading", total=1) as stage:
        stage.update(1, loss=0.5)
    c.table("table", ["a"], [["1"]])
    c.finish()
    assert capsys.readouterr() == ("", "")
    log = (tmp_path / "log.txt").read_text()
    for text in ("title", "line", "warning: careful", "loading  1/1", "done in", "1 warning in"):
        assert text in log


def test_every_line_of_the_log_has_a_time(tmp_path):
    c = Console(tmp_path / "log.txt", quiet=True)
    c.line("one\ntwo")
    c.log("Traceback\n  File x")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert len(lines) == 4
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)


def test_what_was_said_before_there_was_a_log_is_in_it(tmp_path, capsys):
    c = Console()
    c.line("early")
    c.log_to(tmp_path / "log.txt")
    c.line("late")
    words = [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert words == ["early", "late"]
    assert capsys.readouterr().out == "early\nlate\n"


def test_warnings_are_said_once_and_repeated_at_the_end():
    out = io.StringIO()
    c = Console(stream=out)
    c.warn("small retain set")
    c.warn("small retain set")
    c.warn("no gold model")
    c.line("done")
    c.finish()
    assert out.getvalue().splitlines() == [
        "warning: small retain set",
        "warning: no gold model",
        "done",
        "2 warnings in this run:",
        "  - small retain set",
        "  - no gold model",
    ]


def test_stage_times_add_up_to_the_wall_time(clock):
    c = Console(stream=io.StringIO())
    for _ in range(2):
        with c.stage("unlearning"):
            clock.now += 3.0
            with c.stage("evaluating"):
                clock.now += 2.0
    assert c.stage_times == {"evaluating": 4.0, "unlearning": 6.0}


def test_a_stage_that_fails_says_when_and_lets_the_error_through():
    out = io.StringIO()
    c = Console(stream=out)
    with pytest.raises(RuntimeError, match="boom"), c.stage("unlearning", total=9) as stage:
        stage.update(4)
        raise RuntimeError("boom")
    assert re.search(r"unlearning  4/9  stopped after \d", out.getvalue())


def test_a_table_is_aligned_text_when_not_a_terminal(tmp_path):
    out = io.StringIO()
    c = Console(tmp_path / "log.txt", stream=out)
    c.table(
        "Results", ["metric", "before", "after"], [["nll", "0.1", "10.25"], ["x\ny", "n/a", ""]]
    )
    lines = [
        "Results",
        "metric  before  after",
        "------  ------  -----",
        "nll        0.1  10.25",
        "x y        n/a",
    ]
    assert out.getvalue().splitlines() == lines
    assert [line[21:] for line in (tmp_path / "log.txt").read_text().splitlines()] == lines


def test_a_ragged_table_is_refused():
    with pytest.raises(ValueError, match="2 columns"):
        Console(quiet=True).table("t", ["a", "b"], [["1"]])


def test_a_terminal_gets_a_bar_and_a_table_and_the_log_the_same_words(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    c = Console(tmp_path / "log.txt", stream=out)
    with c.stage("unlearning [x]", total=2) as stage:
        with c.stage("evaluating", total=1) as inner:
            inner.update(1)
        stage.update(1, loss=0.5)
        stage.update(2, loss=0.25)
        c.line("brackets [bold]stay[/bold]")
    c.table("Results", ["metric", "after"], [["accuracy [x]", "0.98"]])
    c.finish()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    log = (tmp_path / "log.txt").read_text()
    assert "━" in shown
    for text in ("2/2  loss 0.25", "brackets [bold]stay[/bold]", "accuracy [x]", "0.98"):
        assert text in shown
        assert text in log
    assert out.getvalue().endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_escape_sequences_of_strangers_reach_neither_terminal_nor_log(tmp_path, stream):
    out = stream()
    c = Console(tmp_path / "log.txt", stream=out)
    c.line("answer: \x1b]0;owned\x07")
    c.table("t", ["a\x1b]0;owned\x07"], [["\x1b]0;owned\x07"]])
    with c.stage("s\x1b]0;owned\x07", total=1) as stage:
        stage.update(1)
    assert "\x1b]" not in out.getvalue() + (tmp_path / "log.txt").read_text()
    assert "\x07" not in out.getvalue()


def test_an_ascii_stream_gets_question_marks_not_an_error():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream=out).line("tofu · forget10")
    assert raw.getvalue() == b"tofu ? forget10\n"
