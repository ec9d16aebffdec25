"""Numbers from label maps."""
