"""Reading of HTML pages that must load nothing."""

from html.parser import HTMLParser


class Checker(HTMLParser):
    """A parser that collects the text, unclosed elements and references to other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe") or any(name in ("src", "href") for name, _ in attributes):
            self.foreign.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take no note of an empty element."""

    def handle_endtag(self, tag: str) -> None:
        """Check that the last open element ends."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text."""
        self.text += f"{data} "


def checked(content: str) -> Checker:
    """Return the parser of a page."""
    checker = Checker()
    checker.feed(content)
    checker.close()
    return checker
