"""What the published networks count: the reference for `lower` and for the torch modules."""

# preset: (learnable parameters, MACs in millions). The parameters are those of timm's models and of the
# authors' code; the MACs, rounded, are those of the papers' tables (UniForm's count operations of BatchNorm
# too, and leave the classifier out).
COUNTS = {
    "efficientvit-m0": (2_349_436, 79.19),
    "efficientvit-m1": (2_980_560, 167.05),
    "efficientvit-m2": (4_187_554, 201.04),
    "efficientvit-m3": (6_900_722, 262.66),
    "efficientvit-m4": (8_804_228, 299.31),
    "efficientvit-m5": (12_473_772, 521.58),
    "shvit-s1": (6_330_808, 241.32),
    "shvit-s2": (11_483_072, 365.39),
    "shvit-s3": (14_245_273, 600.57),
    "shvit-s4": (16_588_484, 986.22),
    "uniform-t": (2_011_916, 73.28),
    "uniform-s": (2_634_380, 161.44),
    "uniform-m": (5_992_346, 248.82),
    "uniform-l": (10_415_097, 463.30),
    "elevit-l": (31_956_254, 3601.18),
}
