"""Speed and memory against peers in one run: ratios, never times alone."""
