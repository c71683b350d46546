"""Intervals, paired tests, the tax: pure functions on arrays and numbers, one noun a file."""
