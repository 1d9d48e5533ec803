"""The project's own constructions: a fixed transformer that reads a function's values from its prompt."""
