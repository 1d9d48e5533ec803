"""Opened models at work: captured attention, prompt caches, shorter prefixes, this library's attention."""
