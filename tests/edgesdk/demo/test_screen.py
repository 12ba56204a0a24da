"""The live table."""

import io

from edgesdk.demo.screen import Screen, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_table__aligns_text_left_and_numbers_right() -> None:
    assert table(("name", "n"), (("a", "5"), ("bcdef", "12"))) == ["name    n", "-----  --", "a       5", "bcdef  12"]


def test_table__no_rows_is_a_head() -> None:
    assert table(("name", "n"), ()) == ["name  n", "----  -"]


def test_screen_draw__terminal_redraws_in_place() -> None:
    stream = Terminal()
    screen = Screen(stream)
    screen.draw(["one", "two"])
    screen.draw(["ONE", "TWO"], final=True)
    assert stream.getvalue() == "\x1b[2Kone\n\x1b[2Ktwo\n\x1b[J\x1b[2F\x1b[2KONE\n\x1b[2KTWO\n\x1b[J"


def test_screen_draw__pipe_gets_the_final_block_only() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.draw(["one"])
    screen.draw(["two"], final=True)
    assert stream.getvalue() == "two\n"


def test_screen_say__stands_above_the_block() -> None:
    stream = Terminal()
    screen = Screen(stream)
    screen.draw(["one"])
    screen.say("note")
    assert stream.getvalue().endswith("\x1b[1F\x1b[Jnote\n\x1b[2Kone\n\x1b[J")
