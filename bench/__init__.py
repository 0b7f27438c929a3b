"""Ratios against references that run alongside, in the same minute on the same machine: `python -m bench`."""
