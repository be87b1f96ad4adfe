"""Made-up lessons: what is asked, what is right, and what is kept for the examination."""
