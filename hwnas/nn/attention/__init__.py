"""The attention types, a file each: `reuse.py` is the attention "reuse".

A file names its class `Attention` as well; it is built from the settings of its op. So that
`hwnas.explain` can look inside, the class has `heads` and `head_channels`, `windows` where it cuts the
map, makes its attention maps with `softmax`, and hands what the heads give, the first channels being
theirs, to a module `output`.
"""
