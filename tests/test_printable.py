"""What the lines say can do nothing but be read."""

import pytest

from partisan_async.text.printable import plain


@pytest.mark.parametrize("text", ["boom", "größer als 5 €", "日本語 🎉", ""])
def test_what_can_be_printed_stays_as_it_is(text):
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("boom\n2026-01-01 INFO    done 7 Pay", "boom\\n2026-01-01 INFO    done 7 Pay"),
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("a\rb\u2028c\u202ed", "a\\rb\\u2028c\\u202ed"),
    ],
)
def test_what_would_start_a_line_or_command_a_terminal_is_shown_as_it_is_written(text, shown):
    assert plain(text) == shown
