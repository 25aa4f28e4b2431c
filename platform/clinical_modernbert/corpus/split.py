"""The held-out split: by group, as a pure function of (seed, group), so that a group never lies on both sides."""

import hashlib

from clinical_modernbert.recipe.corpus import HeldOutSection

SPLITS = ("train", "held_out")


def is_held_out(group: str, section: HeldOutSection) -> bool:
    """Return whether a patient, PMID or code concept belongs to the held-out split."""
    digest = hashlib.blake2b(f"{section.seed}\0{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < section.fraction * 2**64
