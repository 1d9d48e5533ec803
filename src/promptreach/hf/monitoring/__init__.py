"""A soft prompt watched while somebody else trains it: what is read, what is warned of, and the door to trainers."""
