"""Recording rules of a distribution over bins: its shares now, and their distance from those in training."""

from dataclasses import dataclass
from statistics import NormalDist

from monitoring.drift import NOISE_LEVEL, ROWS_MIN, SMOOTHING
from monitoring.rules.forms import Rule, record

TRAINING_ROWS = "version:inference_model_training_rows:max"


Z = f"{NormalDist().inv_cdf(NOISE_LEVEL):.15g}"
"""The normal quantile of NOISE_LEVEL, in standard deviations."""


@dataclass(frozen=True)
class Distribution:
    """A metric that counts by bin, and one that gives the share of each bin in training."""

    name: str
    counter: str
    reference: str
    infos: str
    """The metric whose label `range` says what a bin holds."""
    level: str
    """The label of the thing that has a distribution."""
    bin_level: str
    bin_label: str

    @property
    def within(self) -> str:
        """The labels of one distribution."""
        return f"model, version, {self.level}"

    def recorded(self, operation: str) -> str:
        """Return the name of a series about the whole distribution."""
        return f"{self.level}:{self.name}:{operation}"

    def recorded_bins(self, operation: str) -> str:
        """Return the name of a series about its bins."""
        return f"{self.bin_level}:{self.name}:{operation}"

    def total(self, expression: str) -> str:
        """Return the sum over its bins."""
        return f"sum by ({self.within}) ({expression})"

    def reference_rules(self) -> list[Rule]:
        """Return the rules that do not depend on a window."""
        shares = self.recorded_bins("reference_ratio")
        spread = f"(2 / (9 * {self.recorded('degrees')}))"
        return [
            # Every replica reports the same value, so never a sum.
            record(shares, f"max by ({self.within}, {self.bin_label}) ({self.reference})"),
            # A single bin has nothing to deviate from.
            record(self.recorded("degrees"), f"count by ({self.within}) ({shares}) - 1 > 0"),
            record(
                self.recorded("chi_square"),
                f"{self.recorded('degrees')}\n  * (1 - {spread} + {Z} * sqrt{spread}) ^ 3",
            ),
        ]

    def window_rules(self, window: str) -> list[Rule]:
        """Return shares, distances and noise floor of the rows in a window. Distances exist from ROWS_MIN rows on."""
        counts, shares = self.recorded_bins(f"increase{window}"), self.recorded_bins(f"ratio{window}")
        training, rows = self.recorded_bins("reference_ratio"), self.recorded(f"increase{window}")
        chi_square = self.recorded("chi_square")
        enough = f"{rows} >= {ROWS_MIN}"
        return [
            # A bin without a count is 0.
            record(
                counts,
                f"sum by ({self.within}, {self.bin_label}) (increase({self.counter}[{window}]))\nor\n{training} * 0",
            ),
            record(rows, self.total(counts)),
            record(
                shares,
                f"({counts} + {SMOOTHING})\n"
                f"/ on ({self.within}) group_left ()\n"
                f"({rows} + {SMOOTHING} * count by ({self.within}) ({counts}))",
            ),
            record(
                self.recorded(f"psi{window}"),
                f"{self.total(f'({shares} - {training}) * ln({shares} / {training})')}\nand\n{enough}",
            ),
            record(
                self.recorded(f"js{window}"),
                "0.5 * "
                + self.total(
                    f"\n  {shares} * log2(2 * {shares} / ({shares} + {training}))\n"
                    f"  + {training} * log2(2 * {training} / ({shares} + {training}))\n"
                )
                + f"\nand\n{enough}",
            ),
            record(
                self.recorded(f"psi_noise{window}"),
                f"{chi_square} / ({enough})\n+\n{chi_square} / on (model, version) group_left () {TRAINING_ROWS}",
            ),
        ]
