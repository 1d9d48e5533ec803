"""Entities in tags: the stretches of words that BIO tags, and their relatives with E and S, mark.

The reading is that of the CoNLL evaluation and of seqeval: an I that continues nothing begins an entity all the same.
"""

from collections.abc import Sequence

Entity = tuple[str, int, int]
"""The type of an entity, its first word, and the one behind its last."""
_BEGINS, _CONTINUES, _ENDS = "BS", "IE", "ES"


def marks_entities(names: Sequence[str]) -> bool:
    """Whether all tags are O or a type behind B, I, E or S and a hyphen, and one of them is such."""
    marked = [name for name in names if name[:1] in _BEGINS + _CONTINUES and name[1:2] == "-"]
    return bool(marked) and all(name == "O" or name in marked for name in names)


def entities_of(tags: Sequence[str]) -> set[Entity]:
    """The entities of one text.

    One begins at B or S, at a tag whose type is not the one before, and behind O, E or S; it ends where the next begins
    or O stands.

    Args:
        tags: of its words, in their order; one that is neither O nor behind a mark and a hyphen is a mark of its own.
    """
    found: set[Entity] = set()
    begun, before, kind = -1, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, own = tag[:1], tag[1:].partition("-")[2] or tag[1:].lstrip("-") or "_"
        is_out = mark == "O"
        starts = not is_out and (mark in _BEGINS or before in ("O", *_ENDS) or own != kind)
        if begun >= 0 and (is_out or starts):
            found.add((kind, begun, place))
            begun = -1
        if starts:
            begun = place
        before, kind = ("O" if is_out else mark), own
    return found


def entity_counts(given: Sequence[str], true: Sequence[str]) -> list[float]:
    """How many entities of one text are right, how many are given, and how many are true; F1 over several texts is
    twice the sum of the first over the sum of the others.

    Args:
        given, true: the tags of the same words.
    """
    told, meant = entities_of(given), entities_of(true)
    return [float(len(told & meant)), float(len(told)), float(len(meant))]
