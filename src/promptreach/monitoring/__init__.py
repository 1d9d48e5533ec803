"""A soft prompt watched while somebody else trains it: what is read, and what is warned of."""
