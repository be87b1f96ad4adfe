"""What a person sees of a training in a terminal: a line, or a live panel."""
