"""Files in, files out; no arithmetic beyond decoding."""
