"""Metrics endpoints, read as Prometheus reads them."""

from collections import defaultdict

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """The samples of one or more endpoints; equal series of several endpoints are added up."""

    def __init__(self, *urls: str) -> None:
        self.text = [httpx.get(url, timeout=60, trust_env=False).text for url in urls]
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for text in self.text:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    self._samples[sample.name].append((sample.labels, sample.value))

    def total(self, name: str, /, **labels: str) -> float:
        """Return the sum over all series of this name with these labels.

        Raises:
            KeyError: If there is no such series.
        """
        values = [value for found, value in self._samples[name] if labels.items() <= found.items()]
        if not values:
            raise KeyError(f"no series {name} with {labels}")
        return sum(values)

    def grown(self, earlier: "Scrape", name: str, **labels: str) -> float:
        """Return the growth of a total since an earlier scrape, in which the series may have been absent."""
        known = name in earlier._samples and any(labels.items() <= found.items() for found, _ in earlier._samples[name])
        return self.total(name, **labels) - (earlier.total(name, **labels) if known else 0.0)

    def label_values(self, name: str, label: str) -> set[str]:
        """Return all values of a label."""
        return {found[label] for found, _ in self._samples[name]}

    @property
    def names(self) -> set[str]:
        """Return the names of all samples."""
        return set(self._samples)
