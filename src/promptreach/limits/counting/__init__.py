"""Numbers of prompt tokens that a task needs, by counting and by the paper's covering argument."""
