"""Frequency of drift reports on data that has not shifted: `python -m bench.false_alarms`, about a minute.

Training rows and live rows come from the same source, so both are noisy; quantile bins are made for a source with equal
shares. Each evaluation is independent of the others; in service, windows overlap and an alert waits.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import NOISE_LEVEL, PSI_MAX, ROWS_MIN, psi, psi_noise, smoothed_shares

SEED = 20_261_124
LOOKS = 20_000
FEATURES = (4, 20)
MODELS = ((150, 5), (1_000, 10), (20_000, 10))
"""Training rows and bins, as training makes them."""
ROWS = (50, 100, ROWS_MIN, 500, 1_000)


def distances(chance: np.random.Generator, training_rows: int, bins: int, rows: int) -> NDArray[np.float64]:
    """Return the PSI of each evaluation; shape (LOOKS,)."""
    even = np.full(bins, 1 / bins)
    trained = chance.multinomial(training_rows, even, LOOKS).tolist()
    seen = chance.multinomial(rows, even, LOOKS).tolist()
    pairs = zip(seen, trained, strict=True)
    return np.array([psi(smoothed_shares(live), smoothed_shares(known)) for live, known in pairs])


def main() -> None:
    """Print the share of evaluations in which at least one feature is reported."""
    chance = np.random.default_rng(SEED)
    rules = (f"> {PSI_MAX}", f"> noise {NOISE_LEVEL}", "both")
    print("| training rows | bins | rows | rule | 1 feature | " + " | ".join(f"{n} features" for n in FEATURES) + " |")
    print("|---:|---:|---:|---|---:|" + "---:|" * len(FEATURES))
    for (training_rows, bins), rows in product(MODELS, ROWS):
        found = distances(chance, training_rows, bins, rows)
        far, unlikely = found > PSI_MAX, found > psi_noise(bins, rows, training_rows)
        for rule, reported in zip(rules, (far, unlikely, far & unlikely), strict=True):
            shares = [reported.mean(), *(reported.reshape(-1, n).any(axis=1).mean() for n in FEATURES)]
            cells = " | ".join(f"{share:.2%}" for share in shares)
            print(f"| {training_rows} | {bins} | {rows} | {rule} | {cells} |")


if __name__ == "__main__":
    main()
