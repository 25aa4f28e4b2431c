"""The split of a pair set by concept: what is held out has no name on the training side, in any source.

1. A group of concepts that follows no other one (an ICD-9-CM category) is drawn by (seed, name), as in a corpus.
2. A group that follows others (an ICD-10-CM category by the crosswalk, a term of an ontology by its cross references) is held
   out where one of them is.
3. A group of an ontology that shares a name with a held-out group is held out too, and so on. ICD categories are not: their
   rubrics repeat ("Other diseases of ..."), and the draw decides about them. Documents are not: phrases repeat in notes.
4. A pair is held out where a group or a name of it is.

Example: 586 "Renal failure" is drawn. N19 follows it by the crosswalk, ``doid:1074`` "kidney failure" by its cross reference,
``hp:0000083`` "Renal insufficiency" by its synonym "kidney failure". No pair of these trains.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources.terms import Follows, TermPair, text_key

_CODES = ("icd9cm:", "icd10cm:")


def held_out_pairs(pairs: Sequence[TermPair], follows: Iterable[Follows], section: HeldOutSection) -> list[bool]:
    """Return for each pair whether it is held out."""
    keys = [(text_key(pair.anchor.text), text_key(pair.positive.text)) for pair in pairs]
    groups = held_out_groups({term.group for pair in pairs for term in (pair.anchor, pair.positive)}, follows, section)
    texts: set[str] = set()
    while True:
        size = len(groups), len(texts)
        for pair, pair_keys in zip(pairs, keys, strict=True):
            for term, key in zip((pair.anchor, pair.positive), pair_keys, strict=True):
                if term.group in groups:
                    texts.add(key)
                elif key in texts and term.prose is None and not term.group.startswith(_CODES):
                    groups.add(term.group)
        if size == (len(groups), len(texts)):
            break
    return [
        pair.anchor.group in groups or pair.positive.group in groups or not texts.isdisjoint(pair_keys)
        for pair, pair_keys in zip(pairs, keys, strict=True)
    ]


def held_out_groups(groups: Iterable[str], follows: Iterable[Follows], section: HeldOutSection) -> set[str]:
    """Return the groups that are drawn, and those that follow one of them; ``groups`` are those that pairs have."""
    followers: dict[str, set[str]] = defaultdict(set)
    for link in follows:
        if link.follower != link.leader:
            followers[link.leader].add(link.follower)
    # A concept that no source has leads nothing, unless it follows one that a source has (a UMLS id between two others).
    known = _reached(groups, followers)
    led = {follower for leader in known for follower in followers.get(leader, ())}
    drawn = {group for group in known - led if is_held_out(group, section)}
    return _reached(drawn, followers)


def _reached(start: Iterable[str], followers: dict[str, set[str]]) -> set[str]:
    found, open_ = set(start), list(start)
    while open_:
        new = followers.get(open_.pop(), set()) - found
        found |= new
        open_.extend(new)
    return found
