"""PEFT adapter folders in and out, LoRA and UniPELT on an opened model."""
