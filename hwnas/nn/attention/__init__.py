"""The attention types, a file each: `reuse.py` is the attention "reuse".

A file names its class `Attention` as well; it is built from the settings of its op.
"""
