"""Everything that touches a model: forget sets in, Memory Removal Difficulty (MRD) out."""

__version__ = "0.2.0"
