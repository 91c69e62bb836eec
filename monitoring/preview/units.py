"""Numbers as Grafana writes them, by the names that it gives to units."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

MINUS = "-"

_SHORT = ("", " K", " Mil", " Bil", " Tri", " Quadr", " Quint", " Sext", " Sept")
_SI = ("", "k", "M", "G", "T", "P", "E")
_IEC = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_TIMES = (
    (1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (60.0, 1.0, "s"), (3600.0, 1 / 60, "mins"),
    (86_400.0, 1 / 3600, "hours"), (604_800.0, 1 / 86_400, "days"), (31_536_000.0, 1 / 604_800, "weeks"),
    (math.inf, 1 / 31_556_900, "years"),
)  # fmt: skip
"""Below so many seconds: what to multiply them with, and what that is."""

_RATES = {
    "ops": "ops/s", "reqps": "req/s", "rps": "rd/s", "wps": "wr/s", "iops": "io/s", "cps": "c/s", "rowsps": "rows/s",
    "eps": "evt/s", "mps": "msg/s",
}  # fmt: skip

_SCALED: dict[str, tuple[float, Sequence[str], str]] = {
    "bytes": (1024, _IEC, "B"),
    "decbytes": (1000, _SI, "B"),
    "binBps": (1024, _IEC, "B/s"),
    "Bps": (1000, _SI, "B/s"),
    "bits": (1024, _IEC, "b"),
    "decbits": (1000, _SI, "b"),
    "bps": (1000, _SI, "b/s"),
    "hertz": (1000, _SI, "Hz"),
}
_TIME_FACTORS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def write(value: float, unit: str = "none", decimals: int | None = None) -> str:
    """A number with its unit; without `decimals`, three digits that say something."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value < 0 and not unit.startswith("dateTime"):
        return MINUS + write(-value, unit, decimals)
    return _writer(unit)(value, decimals)


def digits(value: float, decimals: int | None) -> str:
    """A positive number alone."""
    if decimals is None:
        decimals = 0 if value == 0 or value % 1 == 0 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{min(decimals, 12)}f}"


def size_of_one(unit: str, value: float) -> float:
    """What counts as 1 near a value: 1 GiB where it is written in GiB. Ticks are round in these."""
    if unit in _TIME_FACTORS:
        seconds = value * _TIME_FACTORS[unit]
        return next((size for size in (86_400, 3600, 60) if seconds >= 2 * size), 1) / _TIME_FACTORS[unit]
    factor, prefixes, _ = _SCALED.get(unit, (1000, "", ""))
    if not prefixes or not value or not math.isfinite(value):
        return 1.0
    power = math.floor(math.log(abs(value), factor) + 1e-9)
    return float(factor) ** min(max(power, 0), len(prefixes) - 1)


def _writer(unit: str) -> Callable[[float, int | None], str]:
    if unit in _TIME_FACTORS:
        return lambda value, decimals: _time(value * _TIME_FACTORS[unit], decimals)
    if unit in _SCALED:
        factor, prefixes, symbol = _SCALED[unit]
        return lambda value, decimals: _scaled(value, decimals, factor, [f" {each}{symbol}" for each in prefixes])
    if unit == "short":
        return lambda value, decimals: _scaled(value, decimals, 1000, _SHORT)
    if unit in _RATES:
        return lambda value, decimals: _scaled(value, decimals, 1000, [f"{each} {_RATES[unit]}" for each in _RATE])
    return _PLAIN.get(unit, lambda value, decimals: f"{digits(value, decimals)} {unit.removeprefix('suffix:')}")


_RATE = ("", "K", "M", "B", "T")


def _scaled(value: float, decimals: int | None, factor: float, suffixes: Sequence[str]) -> str:
    power = 0
    while value >= factor and power < len(suffixes) - 1:
        value, power = value / factor, power + 1
    return digits(value, decimals) + suffixes[power]


def _time(seconds: float, decimals: int | None) -> str:
    if seconds == 0:
        return "0 s"
    factor, name = next((factor, name) for limit, factor, name in _TIMES if seconds < limit)
    text = digits(seconds * factor, decimals)
    return f"{text} {name.removesuffix('s') if text == '1' and seconds >= 60 else name}"


def moment(seconds: float) -> str:
    """A time since 1970, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """A length of time in the largest unit that divides it."""
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = round(seconds / size)
            return f"{count} {name}" + "s" * (count != 1)
    return f"{seconds:g} seconds"


def _moment(milliseconds: float, decimals: int | None) -> str:
    return moment(milliseconds / 1000)


def _ago(milliseconds: float, decimals: int | None) -> str:
    seconds = datetime.now(timezone.utc).timestamp() - milliseconds / 1000
    return f"{_time(abs(seconds), 0)} ago" if seconds >= 0 else f"in {_time(-seconds, 0)}"


_PLAIN: dict[str, Callable[[float, int | None], str]] = {
    "": digits,
    "none": digits,
    "string": digits,
    "locale": lambda value, decimals: f"{value:,.{decimals or 0}f}",
    "percent": lambda value, decimals: f"{digits(value, decimals)}%",
    "percentunit": lambda value, decimals: f"{digits(round(value * 100, 10), decimals)}%",
    "dateTimeAsIso": _moment,
    "dateTimeAsSystem": _moment,
    "dateTimeFromNow": _ago,
    "bool": lambda value, decimals: "True" if value else "False",
    "bool_yes_no": lambda value, decimals: "Yes" if value else "No",
    "bool_on_off": lambda value, decimals: "On" if value else "Off",
}
