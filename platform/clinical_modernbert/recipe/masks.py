"""The frozen evaluation masks by name, and the ranks at which accuracy under them is counted.

Defined here because a recipe's default needs them; code above the recipes imports them from ``masking``.
"""

from typing import Literal

MaskKind = Literal["uniform", "entity"]
MASK_KINDS: tuple[MaskKind, ...] = ("uniform", "entity")
TOP_K = (1, 5, 10, 25)
