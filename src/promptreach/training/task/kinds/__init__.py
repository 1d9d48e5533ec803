"""What sets one kind of task apart from another: its head's outputs, its loss, its answers, its metrics."""
