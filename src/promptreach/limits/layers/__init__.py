"""How far a whole layer can stretch its input and when it can be inverted: Lipschitz bounds and inverses."""
