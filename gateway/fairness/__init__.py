"""Fairness between owners of API keys: turns at work, and budgets of which no owner has all."""
