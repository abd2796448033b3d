"""Readers of directions: what they are made of, and what other ways of making them lose."""
