"""Hosts that come and go: what must be right before, what the last `up` left, and when a host is ready."""
