"""Alerts about drift."""

from collections.abc import Sequence

from monitoring import drift
from monitoring.rules.distribution import Distribution
from monitoring.rules.forms import Rule, alert

DASHBOARD = "headrace-model"


def alerts(
    features: Distribution, outputs: Distribution, confidence: str, windows: Sequence[str], after: str
) -> list[Rule]:
    """Return an alert for each kind of drift; each uses the first of `windows` that holds enough rows."""
    return [
        _alert(
            "FeatureDrift",
            _shifted(features, windows),
            after,
            summary="{{ $labels.model }} {{ $labels.version }}: {{ $labels.feature }} has drifted",
            description="Its PSI against the training rows is {{ $value | humanize }}, "
            f"above {drift.PSI_MAX} and above what chance explains.",
        ),
        _alert(
            "OutputDrift",
            _shifted(outputs, windows),
            after,
            summary="{{ $labels.model }} {{ $labels.version }}: the predictions have drifted",
            description="The PSI of its predictions {{ with $labels.target }}({{ . }}) {{ end }}is "
            f"{{{{ $value | humanize }}}}, above {drift.PSI_MAX} and above what chance explains.",
        ),
        _alert(
            "LowConfidence",
            _unsure(outputs, confidence, windows),
            after,
            summary="{{ $labels.model }} {{ $labels.version }} has a low confidence",
            description="The median of the highest class probability of a row is {{ $value | humanizePercentage }}, "
            "little more than by guessing.",
        ),
        _alert(
            "MissingFeatures",
            f"{_first(features.recorded('missing_excess'), windows)} > {drift.MISSING_EXCESS_MAX}",
            after,
            summary="{{ $labels.model }} {{ $labels.version }}: {{ $labels.feature }} is missing more often",
            description="{{ $value | humanizePercentage }} of the rows, beyond what training had and chance explains, "
            "lack it.",
        ),
        _alert(
            "OutOfRange",
            f"{_first(features.recorded('out_of_range_excess'), windows)} > {drift.OUT_OF_RANGE_EXCESS_MAX}",
            after,
            summary="{{ $labels.model }} {{ $labels.version }}: {{ $labels.feature }} has values unknown to training",
            description="{{ $value | humanizePercentage }} of the rows, beyond what training had and chance explains, "
            "hold a number outside the training range or an unknown text.",
        ),
    ]


def _alert(name: str, expression: str, after: str, summary: str, description: str) -> Rule:
    return alert(
        name,
        expression,
        wait=after,
        severity="warning",
        summary=summary,
        description=description,
        dashboard=DASHBOARD,
    )


def _first(recorded: str, windows: Sequence[str]) -> str:
    """Return the value of the first window that has one: `or` compares all labels but the name."""
    return f"({' or '.join(f'{recorded}{window}' for window in windows)})"


def _shifted(distribution: Distribution, windows: Sequence[str]) -> str:
    distance, noise = distribution.recorded("psi"), distribution.recorded("psi_noise")
    margins = " or ".join(f"{distance}{window} - {noise}{window}" for window in windows)
    return f"{_first(distance, windows)} > {drift.PSI_MAX}\nand\n({margins}) > 0"


def _unsure(outputs: Distribution, confidence: str, windows: Sequence[str]) -> str:
    """Compare the median with chance, one over the number of classes. Models with several outputs have no median."""
    classes = f"(sum by (model, version) ({outputs.recorded('degrees')}) + 1)"
    least = drift.CONFIDENCE_ABOVE_CHANCE_MIN
    return f"{_first(f'version:{confidence}:median', windows)}\n<\n{least} + {1 - least} / {classes}"
