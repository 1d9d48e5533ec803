"""The tuning methods: prompt, prefix, LoRA, UniPELT, head and full, with their starts and sizes."""
