"""Texts that a terminal would obey, hide, or show in another order."""

HOSTILE_TEXTS = [
    f"before{text}after"
    for text in (
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\x1b]8;;http://127.0.0.1\x1b\\\\link",
        "\x1bP+q544e\x1b\\\\",
        "\x9b31m",
        "\x9d52;c;dGV4dA==\x9c",
        "\rover the line",
        "\x08\x08\x08",
        "\x00",
        "\x07",
        "\x0b\x0c",
        "\x7f",
        "\x0e",
        "\u202egnp.exe",
        "\u2066\u2069",
        "\u200b\u200e",
        "\u2028\u2029",
        "\ufeff",
        "\x85",
        "\ud800",
        "\U000e0041",
    )
]


def harmless(text: str) -> bool:
    """Return True if a text holds nothing but characters that can be printed, newlines and tabs."""
    return all(each.isprintable() or each in "\n\t" for each in text)
