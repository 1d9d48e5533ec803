"""What the command line's other verbs find and show, as functions."""
