"""What comes from data is shown on the terminal as it is: never as markup, and never as control characters."""

import unicodedata

_HIDDEN = {
    "Cc",
    "Cf",
    "Cs",
    "Zl",
    "Zp",
}  # control, format (such as changes of direction), surrogates, separators of lines


def plain(text: object) -> str:
    """A text with its control characters escaped, such as `\\x1b` and `\\u202e`."""
    return "".join(_escaped(sign) if unicodedata.category(sign) in _HIDDEN else sign for sign in str(text))


def shown(text: object) -> str:
    """The same for the places where rich would read markup: "[remix]" is printed as it is written."""
    from rich.markup import escape

    return escape(plain(text))


def _escaped(sign: str) -> str:
    return (
        sign.encode("unicode_escape", "surrogatepass").decode() if sign != "\u200d" else sign
    )  # joins parts of an emoji
