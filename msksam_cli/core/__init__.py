"""The nouns of msksam: frozen values built on numpy alone, checked when built."""
