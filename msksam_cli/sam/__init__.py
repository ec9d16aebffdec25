"""The network: torch lives only here and in training."""
