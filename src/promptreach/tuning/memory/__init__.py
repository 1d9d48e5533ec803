"""How much text a prompt holds: bits and tokens memorised by so many virtual tokens.

The front door is `promptreach.tuning.capacity`.
"""
