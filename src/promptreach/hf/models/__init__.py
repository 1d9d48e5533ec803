"""Hugging Face models opened, taken apart into weight records, and made from compiled backbones."""
