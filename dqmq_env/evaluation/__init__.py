"""Forward passes: layer by layer, whole, and what is read off them."""
