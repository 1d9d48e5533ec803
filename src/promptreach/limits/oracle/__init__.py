"""Which targets a prompt can reach in one attention layer: exact floors, witnesses, and pairs that no prompt fits."""
