"""Linear attention, as a package that adds the attention type `linear` to hwnas."""
