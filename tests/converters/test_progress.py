from __future__ import annotations

import io
import os
import time

import pytest

from edgesdk_converters.progress import Lines, Terminal, for_stream


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        """What is in the last line now."""
        return self.getvalue().rpartition("\r\x1b[2K")[2]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")


def test_for_stream__bars_only_on_a_terminal() -> None:
    plain = io.StringIO()
    with for_stream(plain) as progress, progress.bar("reading", 3) as bar:
        bar.advance(3)
        progress.say("done")
    assert plain.getvalue() == "  reading (3)\n  done\n"
    assert isinstance(for_stream(Screen()), Terminal)
    assert type(for_stream(plain)) is Lines


def test_terminal__bar_fits_the_width_and_is_wiped(narrow: None) -> None:
    screen = Screen()
    with Terminal(screen) as progress:
        with progress.bar(
            "a step with a name that is much longer than any terminal is wide, which would wrap", 40
        ) as bar:
            assert len(screen.shown) < 60
            assert screen.shown.endswith("0/40")
            bar.advance(40)
        assert screen.shown == ""


def test_terminal__many_steps_are_not_drawn_each(narrow: None) -> None:
    screen = Screen()
    with Terminal(screen) as progress, progress.bar("fast", 100_000) as bar:
        for _ in range(100_000):
            bar.advance()
    assert screen.getvalue().count("fast") < 500


def test_terminal__an_inner_bar_gives_the_place_back(narrow: None) -> None:
    screen = Screen()
    with Terminal(screen) as progress, progress.bar("outer", 2):
        with progress.bar("inner", 2):
            assert "inner" in screen.shown
        assert "outer" in screen.shown


def test_terminal__a_long_step_without_a_bar_shows_that_it_goes_on(narrow: None) -> None:
    screen = Screen()
    with Terminal(screen) as progress:
        progress.say("searching")
        deadline = time.monotonic() + 20
        while "searching ... " not in screen.shown and time.monotonic() < deadline:
            time.sleep(0.05)
        assert screen.shown.startswith("  searching ... ")
        assert screen.shown.endswith(" s")
    assert screen.getvalue().endswith("\r\x1b[2K")


def test_terminal__an_error_leaves_a_clean_line(narrow: None) -> None:
    screen = Screen()
    with pytest.raises(KeyboardInterrupt), Terminal(screen) as progress, progress.bar("step", 2):
        raise KeyboardInterrupt
    assert screen.shown == ""
    assert os.get_terminal_size is not None
