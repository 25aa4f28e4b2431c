"""Read a pair set for training and evaluation, by source and split.

Legend: N pairs, L longest lineage.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.pairs.build import PAIRS_NAME, PARENTS_NAME
from clinical_modernbert.corpus.pairs.negatives import all_above


@dataclass(frozen=True, slots=True)
class PairTexts:
    """Pairs of one source, in the order of the artifact."""

    anchors: Sequence[str]
    positives: Sequence[str]
    anchor_lineages: Sequence[Sequence[str]]
    positive_lineages: Sequence[Sequence[str]]
    negatives: Sequence[Sequence[str]] = ()
    """Hard negatives of each pair; empty where the set has none."""
    negative_lineages: Sequence[Sequence[Sequence[str]]] = ()
    above: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Concept -> all concepts above it in its ontology, where its lineage does not name them."""

    def __len__(self) -> int:
        return len(self.anchors)


def read_pair_set(pairs: Artifact, *, split: Literal["train", "held_out", "all"]) -> dict[str, PairTexts]:
    """Return the pairs of each source that has any in the split, in the order of the recipe's sources."""
    table = pq.read_table(pairs.file(PAIRS_NAME))
    if split != "all":
        table = table.filter(pc.equal(table["split"].cast(pa.string()), split))
    names = table["source"].cast(pa.string())
    found, above = {}, _above(pairs)
    for source in pairs.manifest.recipe["sources"]:
        rows = table.filter(pc.equal(names, source["name"]))
        if len(rows):
            columns = ["anchor", "positive", "anchor_lineage", "positive_lineage"]
            if pairs.summary.get("negatives"):
                columns += ["negatives", "negative_lineages"]
            found[source["name"]] = replace(PairTexts(*(rows[name].to_pylist() for name in columns)), above=above)
    return found


def _above(pairs: Artifact) -> dict[str, tuple[str, ...]]:
    parents: dict[str, set[str]] = {}
    for row in pq.read_table(pairs.file(PARENTS_NAME)).to_pylist():
        parents.setdefault(row["child"], set()).add(row["parent"])
    found: dict[str, set[str]] = {}
    return {child: tuple(sorted(all_above(child, parents, found))) for child in parents}


def concept_ids(lineages: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Return the hashes of each concept and of those above it, int64 [N, L]; 0 after the end of a shorter lineage."""
    ids_NL = np.zeros((len(lineages), max(map(len, lineages), default=0)), dtype=np.int64)
    known: dict[str, int] = {}
    for row, lineage in enumerate(lineages):
        for name in lineage:
            if name not in known:
                known[name] = name_id(name)
        ids_NL[row, : len(lineage)] = [known[name] for name in lineage]
    return ids_NL


def name_id(name: str) -> int:
    """Return a 63-bit hash of a name, never 0."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1 | 1
