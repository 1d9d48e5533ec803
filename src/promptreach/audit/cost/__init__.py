"""What inference with the prompt will cost, and what makes it cheaper."""
