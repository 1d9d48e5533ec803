"""What can be trained: prompt, prefix, LoRA, UniPELT, head and full, with their starts and sizes."""
