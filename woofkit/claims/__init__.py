"""The claims of the paper, what would show them, and what the measurements say."""
