"""The split of a pair set by concept: what is held out has no name on the training side, in any source.

1. A group of concepts that follows no other one (an ICD-9-CM category) is drawn by (seed, name), as in a corpus.
2. A group that follows others (an ICD-10-CM category by the crosswalk, a term of an ontology by its cross references) is held
   out where one of them is.
3. A group of an ontology that shares a name with a held-out group is held out too, and so on. ICD categories are not: their
   rubrics repeat ("Other diseases of ..."), and the draw decides about them. Documents are not: phrases repeat in notes.
4. A pair is held out where a group or a name of it is. All names that a source gives count, also those of dropped
   pairs. ``name_keys`` says which names are equal.

Example: 586 "Renal failure" is drawn. N19 follows it by the crosswalk, ``doid:1074`` "kidney failure" by its cross reference,
``hp:0000083`` "Renal insufficiency" by its synonym "kidney failure". No pair of these trains.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.name_keys import name_keys
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources.terms import Follows, Term, TermPair

_CODES = ("icd9cm:", "icd10cm:")


def held_out_pairs(
    pairs: Sequence[TermPair], terms: Iterable[Term], follows: Iterable[Follows], section: HeldOutSection
) -> list[bool]:
    """Return for each pair whether it is held out; ``terms`` are all names that were read, also those of dropped pairs."""
    sides = [(pair.anchor, pair.positive) for pair in pairs]
    keys = {term: name_keys(term.text) for term in {*terms, *(term for side in sides for term in side)}}
    groups = held_out_groups({term.group for term in keys}, follows, section)
    names: set[str] = set()
    while True:
        size = len(groups), len(names)
        for term, of_term in keys.items():
            if term.group in groups:
                names |= of_term
            elif term.prose is None and not term.group.startswith(_CODES) and not names.isdisjoint(of_term):
                groups.add(term.group)
        if size == (len(groups), len(names)):
            break
    return [any(term.group in groups or not names.isdisjoint(keys[term]) for term in side) for side in sides]


def held_out_groups(groups: Iterable[str], follows: Iterable[Follows], section: HeldOutSection) -> set[str]:
    """Return the groups that are drawn, and those that follow one of them; ``groups`` are those that have a name."""
    followers: dict[str, set[str]] = defaultdict(set)
    codes: set[str] = set()
    for link in follows:
        if link.follower != link.leader:
            followers[link.leader].add(link.follower)
            codes.update({link.leader} if link.leader.startswith(_CODES) else ())
    # A category leads whether or not a source names it: evaluation draws it from the code table. Any other concept that no source
    # has leads nothing, unless it follows one that a source has (a UMLS id between two others).
    known = _reached({*groups, *codes}, followers)
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
