"""What constructions are assembled from: named streams, blocks, ReLU pieces, grids and error budgets."""
