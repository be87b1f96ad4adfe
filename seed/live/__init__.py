"""A brain that lives on a robot: the fast loop, between a body and an exported file."""
