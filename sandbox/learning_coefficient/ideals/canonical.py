"""A key for germs that does not depend on the names of the variables, so that symmetric charts are resolved once.

Variables get colours by the terms that hold them; the colours are refined until they no longer change. If several
variables still share a colour, one of them gets its own (McKay, "Practical graph isomorphism", 1981). Germs with equal
keys are equal up to names. The converse is sure only if variables that share a colour are interchangeable.
"""

from __future__ import annotations

from sandbox.learning_coefficient.ideals.germ import Germ

_MOST_TERMS = 80

Colours = dict[int, int]


def canonical(germ: Germ) -> tuple[object, ...]:
    """Return the key of a germ: equal keys mean that the germs are equal after a renaming of their variables."""
    used = sorted(germ.occurring() | {j for j in germ.local if germ.power[j]})
    kinds = {j: (j in germ.local, germ.power[j] * (j in germ.local), germ.prior[j] * (j in germ.local)) for j in used}
    order = used
    if sum(map(len, germ.generators)) <= _MOST_TERMS:
        ranks = {kind: k for k, kind in enumerate(sorted(set(kinds.values())))}
        order = _order(germ, {j: ranks[kinds[j]] for j in used})
    named = [tuple(sorted((tuple(m[j] for j in order), str(c)) for m, c in g.items())) for g in germ.generators]
    return (tuple(kinds[j] for j in order), tuple(sorted(named)))


def _order(germ: Germ, colours: Colours) -> list[int]:
    """Return the variables in an order that depends on their names only if several variables look alike."""
    while True:
        colours = _refined(germ, colours)
        members = sorted(colours.values())
        tied = next((c for c in members if members.count(c) > 1), None)
        if tied is None:
            return sorted(colours, key=lambda j: colours[j])
        first = min(j for j, colour in colours.items() if colour == tied)
        colours = {j: 2 * colour + (colour == tied and j != first) for j, colour in colours.items()}


def _refined(germ: Germ, colours: Colours) -> Colours:
    """Return the colours, refined by the coloured monomials that hold each variable until they do not change."""
    while True:
        looks: dict[int, list[object]] = {j: [] for j in colours}
        for g in germ.generators:
            seen = {m: tuple(sorted((colours[j], e) for j, e in enumerate(m) if e)) for m in g}
            whole = hash(tuple(sorted(seen.values())))
            for m, look in seen.items():
                for j, e in enumerate(m):
                    if e:
                        looks[j].append((e, look, whole))
        full = {j: (colour, tuple(sorted(looks[j], key=hash))) for j, colour in colours.items()}
        ranks = {look: k for k, look in enumerate(sorted(set(full.values()), key=lambda look: (look[0], hash(look))))}
        finer = {j: ranks[look] for j, look in full.items()}
        if len(ranks) == len(set(colours.values())):
            return finer
        colours = finer
