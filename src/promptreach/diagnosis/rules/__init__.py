"""The rules that turn measurements into a verdict."""
