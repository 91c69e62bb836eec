"""stub"""

CARD_FILE = "card.html"


def card(*a: object) -> str:
    return "x"
