"""The parts of all constructions: streams and layers, relu units, grids, fingerprints and exact rounding."""
