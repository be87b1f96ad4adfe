"""Those who answer questions for a brain that learns: asked, doubted, and remembered."""
