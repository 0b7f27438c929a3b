"""Packets on a host's wire."""
