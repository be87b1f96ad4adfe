"""Acting: bodies, their codec, rounds of play."""
