"""The data of a training: split, encoded, with its read-out and its loss."""
