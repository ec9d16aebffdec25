"""The order of work: the only place where files meet computation."""
