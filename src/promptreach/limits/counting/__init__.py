"""How many prompt tokens a task needs, by counting and by the paper's covering argument."""
