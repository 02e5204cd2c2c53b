"""What makes samples hard: characteristics, strata, and the claims held against them."""
