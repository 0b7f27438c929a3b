"""The container engine: what the lab asks of one, and the real one."""
