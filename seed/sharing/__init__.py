"""What others get of a brain: its description, its card and weights, and all of it in one file."""
