"""Rows to figures: pure functions; what they make is tested as data, without a browser."""
