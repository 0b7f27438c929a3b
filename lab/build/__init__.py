"""Images: which are out of date, and how they are built."""
