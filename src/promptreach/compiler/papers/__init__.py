"""The papers' constructions: one layer (Hu et al.), many layers (Wang et al.), one kernel head (Petrov et al.)."""
