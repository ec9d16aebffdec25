"""Where tissues may be: building atlases, placing them, and turning them into prompts."""
