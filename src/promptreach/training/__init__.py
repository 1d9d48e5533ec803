"""Training prompts and their rivals under matched conditions; the front door is `promptreach.tuning.fit`."""
