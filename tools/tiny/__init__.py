"""Builds the embedded model `tiny`, its evaluation sets and its training prompts from nothing; see README.md."""
