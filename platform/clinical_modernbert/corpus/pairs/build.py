"""Build a pair set: read every source, drop what cannot train, split by concept, publish.

``pairs.parquet`` has the pairs with their split, ``terms.parquet`` every name of every concept (also of dropped pairs, without
texts of documents), ``links.parquet`` which concept is held out with which, ``parents.parquet`` which concept is right above
which in an ontology.

The driver does it alone and in memory, because vocabularies are small next to corpora: 150,000 pairs take seconds. A UMLS release
of millions of names takes gigabytes; ``vocabularies`` of its source limits them, and ``max_pairs`` the pairs of documents.
"""

import logging
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan
from clinical_modernbert.corpus import SPLITS
from clinical_modernbert.corpus.fingerprint_inputs import decontamination_inputs
from clinical_modernbert.corpus.pairs.card import pair_card
from clinical_modernbert.corpus.pairs.collect import Collected, collect
from clinical_modernbert.corpus.pairs.contamination import Contamination
from clinical_modernbert.corpus.pairs.negatives import Embed, Mined, mine_negatives
from clinical_modernbert.corpus.pairs.sources import source_files
from clinical_modernbert.corpus.pairs.split import held_out_pairs
from clinical_modernbert.errors import RecipeError, SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.recipe.pairs import PairSource, PairsRecipe
from clinical_modernbert.sources.terms import Term
from clinical_modernbert.sources.terms.rows import with_local_paths

PAIRS_NAME, TERMS_NAME, LINKS_NAME = "pairs.parquet", "terms.parquet", "links.parquet"
PARENTS_NAME = "parents.parquet"
_logger = logging.getLogger(__name__)


def pair_inputs(recipe: PairsRecipe) -> tuple[InputEntry, ...]:
    """Return the files of every source, and the evaluation sets, with their digests."""
    files = [(source.name, file) for source in _local_sources(recipe) for file in source_files(source)]
    entries = tuple(InputEntry(name=f"{name}/{file.name}", id=name, digest=file_sha256(file)) for name, file in files)
    return entries + (decontamination_inputs(recipe.decontamination) if recipe.decontamination else ())


def _local_sources(recipe: PairsRecipe) -> list[PairSource]:
    """Return the sources with local paths: files in S3 are copied to this machine until the process ends."""
    return [with_local_paths(source) for source in recipe.located_sources]


def build_pairs(plan: Plan[PairsRecipe], *, embed: Embed | None = None) -> Artifact:
    """Read, split, mine and publish; raises ``SourceError`` where a source cannot be read or has no pair.

    ``embed`` gives the vectors of the recipe's ``negatives.model``.
    """
    recipe, collected = plan.recipe, Collected()
    corpus = plan.artifacts.get("corpus")
    if corpus is not None:
        _check_held_out(recipe, corpus)
    evaluation = Contamination.of(recipe.decontamination)
    accounts = {
        source.name: collect(source, recipe, collected, corpus=corpus, evaluation=evaluation)
        for source in _local_sources(recipe)
    }
    held_out = held_out_pairs(collected.pairs, collected.terms, collected.follows, recipe.held_out)
    splits = [SPLITS[is_out] for is_out in held_out]
    for name, split in zip(collected.sources, splits, strict=True):
        accounts[name].pairs[split] += 1
    for name, account in accounts.items():
        assert account.records == account.pairs.total() + account.dropped.total() + account.quarantined, name
        _logger.info("source %s: %s pairs, dropped %s", name, dict(account.pairs), dict(account.dropped))
        if not account.pairs["train"]:
            why = f"of {account.records} records were dropped {dict(account.dropped)}"
            raise SourceError(f"sources[{name}]: no pair to train on; {why if account.records else 'it has no rows'}")
    places = list(zip(collected.sources, splits, strict=True))
    mined = (
        mine_negatives(
            collected.pairs, places, recipe.negatives, embed, follows=collected.follows, parents=collected.parents
        )
        if recipe.negatives
        else None
    )
    counts = mined.to_json() if mined else None
    summary = {
        "sources": {name: account.to_json() for name, account in accounts.items()},
        "pairs": dict(Counter(splits)),
        "negatives": counts,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pq.write_table(_table(collected, splits, mined), folder / PAIRS_NAME, compression="zstd")
        terms, links = list(collected.terms), list(collected.follows)
        pq.write_table(
            pa.table({"concept": [term.lineage[0] for term in terms], "text": [term.text for term in terms]}),
            folder / TERMS_NAME,
            compression="zstd",
        )
        pq.write_table(
            pa.table({"follower": [link.follower for link in links], "leader": [link.leader for link in links]}),
            folder / LINKS_NAME,
            compression="zstd",
        )
        above = [(child, parent) for child, parents in collected.parents.items() for parent in sorted(parents)]
        children, parents = ([row[side] for row in above] for side in (0, 1))
        columns = {"child": pa.array(children, pa.string()), "parent": pa.array(parents, pa.string())}
        pq.write_table(pa.table(columns), folder / PARENTS_NAME, compression="zstd")
        card = pair_card(plan.id, recipe, accounts, counts, evaluation.num_texts)
        (folder / "README.md").write_text(card, encoding="utf-8")
        return plan.publish_folder(folder, summary=summary)


def _check_held_out(recipe: PairsRecipe, corpus: Artifact) -> None:
    """Raise ``RecipeError`` if the pairs could hold what the corpus holds out."""
    ours, theirs = recipe.held_out, CorpusRecipe.model_validate(corpus.manifest.recipe).held_out
    if ours.seed != theirs.seed or ours.fraction < theirs.fraction:
        raise RecipeError(
            f"held_out: seed={ours.seed} and fraction={ours.fraction:g} leave in what {corpus.manifest.id} holds out; take its "
            f"seed={theirs.seed}, and a fraction of at least {theirs.fraction:g}"
        )


def _table(collected: Collected, splits: list[str], mined: Mined | None) -> pa.Table:
    pairs, lineage = collected.pairs, pa.list_(pa.string())
    negatives: list[tuple[Term, ...]] = mined.negatives if mined else [() for _ in pairs]
    return pa.table(
        {
            "source": pa.array(collected.sources).dictionary_encode(),
            "relation": pa.array([pair.relation for pair in pairs]).dictionary_encode(),
            "anchor": [pair.anchor.text for pair in pairs],
            "positive": [pair.positive.text for pair in pairs],
            "anchor_lineage": pa.array([pair.anchor.lineage for pair in pairs], lineage),
            "positive_lineage": pa.array([pair.positive.lineage for pair in pairs], lineage),
            "negatives": pa.array([[term.text for term in terms] for terms in negatives], lineage),
            "negative_lineages": pa.array([[term.lineage for term in terms] for terms in negatives], pa.list_(lineage)),
            "split": pa.array(splits).dictionary_encode(),
        }
    )
