"""Corpus building on Ray Data, the packed shards that it leaves, and the held-out split.

The split is by group (patient, PMID or code concept), as a pure function of (seed, group): a group is never on both sides.
Importing this package loads neither ray nor the libraries of the builders.
"""

import hashlib

from clinical_modernbert.recipe.corpus import HeldOutSection

SPLITS = ("train", "held_out")


def is_held_out(group: str, section: HeldOutSection) -> bool:
    """Return whether a patient, PMID or code concept belongs to the held-out split."""
    digest = hashlib.blake2b(f"{section.seed}\0{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < section.fraction * 2**64
