"""What a user holds of a host."""
