"""Looking inside a network: Grad-CAM, what its attentions look at, how alike their heads are."""
