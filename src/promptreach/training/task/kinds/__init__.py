"""The kinds of tasks that are read through a head: outputs, loss, answers and metrics, one object each."""
