"""A run in a browser and for programs: its panel, its report, questions to its brain. Standard
library alone; importing it never imports tinygrad."""
