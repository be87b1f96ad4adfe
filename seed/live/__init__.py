"""A brain that lives on a robot: the fast loop acts, the learner beside it learns of that."""
