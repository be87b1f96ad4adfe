"""Items beyond the generators: self-play, a teacher, and soft targets from a parent brain."""
