"""Tests of the Helm chart: what Helm's own engine makes of it."""
