"""Making checkpoints: data, losses, loop."""
