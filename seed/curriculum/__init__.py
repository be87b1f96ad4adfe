"""Synthetic training items: tasks with verifiers, the dataset of their items, the curriculum."""
