"""Big numbers, one for each series."""

from collections.abc import Sequence

from monitoring.preview import svg
from monitoring.preview.answers import Answer
from monitoring.preview.calcs import calculated
from monitoring.preview.colours import Theme, ink_on
from monitoring.preview.dashboard import Panel
from monitoring.preview.svg import Box

LARGEST, SMALLEST = 44.0, 13.0
GAP = 6


def draw(panel: Panel, answers: Sequence[Answer], box: Box, theme: Theme) -> str:
    """The whole panel below its title."""
    return "".join(
        _number(panel, answer, part, theme) for answer, part in zip(answers, _parts(box, len(answers)), strict=True)
    )


def _parts(box: Box, count: int) -> list[Box]:
    """Equal parts, side by side, or one below the other if that is wider than high."""
    if box.width >= box.height:
        width = (box.width - GAP * (count - 1)) / count
        return [Box(box.x + (width + GAP) * i, box.y, width, box.height) for i in range(count)]
    height = (box.height - GAP * (count - 1)) / count
    return [Box(box.x, box.y + (height + GAP) * i, box.width, height) for i in range(count)]


def _number(panel: Panel, answer: Answer, box: Box, theme: Theme) -> str:
    [calc] = panel.options.get("reduceOptions", {}).get("calcs") or ["lastNotNull"]
    value = calculated(calc, answer.series.values)
    mode, shows_name = panel.options.get("colorMode", "value"), "name" in panel.options.get("textMode", "auto")
    colour = answer.field.colour_of(value)
    is_filled = mode.startswith("background")
    ink = ink_on(colour) if is_filled else colour if mode == "value" else theme.text
    shown = answer.field.write(value)
    name_size = 13.0 if shows_name else 0.0
    size = _size(shown, box, box.height - name_size * 1.6 - 6)
    parts = [svg.rect(box, colour, radius=3)] if is_filled else []
    middle = box.x + box.width / 2
    height = size * 0.74 + (name_size + 9 if shows_name else 0)
    top = box.y + (box.height - height) / 2
    if shows_name:
        parts.append(
            svg.text(middle, top + name_size * 0.8, answer.name, ink, name_size, "middle", width=box.width - 10)
        )
    parts.append(svg.text(middle, top + height, shown, ink, size, "middle", 500, width=box.width - 6))
    return "".join(parts)


def _size(shown: str, box: Box, height: float) -> float:
    """The largest that fits."""
    wide = (box.width - 16) / max(0.1, svg.text_width(shown, 1.0, 500))
    return max(SMALLEST, min(LARGEST, height * 0.9, wide))
