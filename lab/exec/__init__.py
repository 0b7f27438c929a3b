"""Commands inside hosts."""
