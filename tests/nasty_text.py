"""Text that tokenizers are most likely to disagree on, as a hypothesis strategy."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

WHITE = (
    *(" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\x1c", "\x1f", "\x85"),
    *("\xa0", "\u1680", "\u2000", "\u2001", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000"),
)
NOT_QUITE_WHITE = ("\0", "\u200b", "\ufeff", "\u200d", "\u2060", "\uffff", "\ufffd", "▁", "▁▁", "Ġ")
WORDS = (
    *("a", "the", "The", "don", "x1", "foo_bar", "été", "e\u0301", "\u0301", "K", "ſ", "ß", "İ"),
    *("漢字", "かな", "한글", "ไทย", "क्षि", "עִבְרִית", "ﬁ", "ǅ", "ª", "\u2126", "\U0001d400"),
)
OTHERS = (
    *(
        "'s",
        "'S",
        "'ll",
        "'ſ",
        "’s",
        "'",
        "''",
        "1",
        "12",
        "1234",
        "٣٤",
        "½",
        "Ⅷ",
        "²",
        "🙂",
        "👨‍👩‍👧",
    ),
    *(".", "...", "!!", ";\n", "};\n\n", "/*", "//", "<", "|", ">", "</", "[", "#" * 9, "\x04\xff"),
)
LONG = ("a" * 300, " " * 70, "\n" * 40, "ab" * 90, "7" * 50, "🙂" * 20, "=-" * 40)


def nasty_text(added: Sequence[str] = ()) -> st.SearchStrategy[str]:
    """Return texts of all this, of any character, and of added tokens, whole and cut off."""
    bits = st.sampled_from([*WHITE, *WHITE, *NOT_QUITE_WHITE, *WORDS, *OTHERS, *LONG])
    kinds: list[st.SearchStrategy[str]] = [bits, bits, st.characters(exclude_categories=["Cs"])]
    if added:
        tokens = st.sampled_from(list(added))
        kinds += [tokens, tokens.flatmap(lambda token: st.sampled_from(_beginnings(token)))]
    return st.lists(st.one_of(kinds), max_size=16).map("".join)


def _beginnings(token: str) -> list[str]:
    return [token[:stop] for stop in range(1, len(token) + 1)]
