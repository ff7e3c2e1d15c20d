"""HTML put together from tags; whatever is not markup already is escaped."""

from html import escape

EMPTY_TAGS = frozenset({"img", "meta", "source"})
"""Tags without an end."""


class Markup(str):
    """HTML that is ready, not to be escaped any more."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: object) -> Markup:
    """One element: `tag("a", "see", href="#x")`. An attribute is written without `_` at its end; None leaves it out."""
    said = "".join(
        f' {key.rstrip("_")}="{escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    if name in EMPTY_TAGS:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(*content)}</{name}>")


def join(*parts: str) -> Markup:
    """The parts one after another."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))
