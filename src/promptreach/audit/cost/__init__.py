"""The cost of inference with a prompt, and what makes it cheaper."""
