"""Explaining a policy, and the page that shows it."""
