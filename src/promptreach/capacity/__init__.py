"""Bits and tokens that a prompt memorises; the front door is `promptreach.tuning.capacity`."""
