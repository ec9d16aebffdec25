"""One file per command: options to a frozen options object, one pipeline call, one summary."""
