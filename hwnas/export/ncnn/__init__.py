"""ncnn: a network as ncnn's layers and weights."""
