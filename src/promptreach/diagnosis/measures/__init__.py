"""One measurement a file: what the rules of a diagnosis read."""
