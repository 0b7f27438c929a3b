"""What is to run: where the project lies, what its settings and its Compose file say, and Compose itself."""
