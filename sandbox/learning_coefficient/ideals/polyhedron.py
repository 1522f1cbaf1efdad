"""The Newton polyhedron: facets, compact faces and the face that a ray hits, in exact integer arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd

from sandbox.learning_coefficient.ideals.polynomials import Exponent, UndecidedError, rank

_MOST_FACETS = 400
_MOST_FACES = 3000


@dataclass(frozen=True)
class Face:
    """A compact face: the points of the support on it, and the facets that contain it, both as indices."""

    points: frozenset[int]
    facets: frozenset[int]


@dataclass(frozen=True)
class Hit:
    """The point at which the ray in direction b meets the boundary of the polyhedron.

    `ratio` is min over facets of (b . w) / N(w) = 1 / t0 with t0 b on the boundary; `codimension` is that of the
    smallest face that contains this point, and `facets` are those with the least ratio. A polyhedron that contains the
    origin has no such point: `ratio` is None.
    """

    ratio: Fraction | None
    codimension: int
    facets: frozenset[int]


@dataclass(frozen=True)
class NewtonPolyhedron:
    """The convex hull of `points` + (R >= 0)^D, with the points as minimal exponents, shape (n, D).

    Its faces raise UndecidedError if there are more facets or faces than the limits allow.
    """

    points: tuple[Exponent, ...]

    @staticmethod
    def of(exponents: Iterable[Exponent]) -> NewtonPolyhedron:
        """Return the polyhedron of a support; exponents that another exponent divides are left out."""
        support = sorted(set(exponents), key=lambda e: (sum(e), e))
        minimal: list[Exponent] = []
        for e in support:
            if not any(all(a <= b for a, b in zip(m, e, strict=True)) for m in minimal):
                minimal.append(e)
        return NewtonPolyhedron(tuple(minimal))

    @property
    def dimension(self) -> int:
        """The number of variables, D."""
        return len(self.points[0])

    @cached_property
    def facets(self) -> tuple[tuple[Exponent, int], ...]:
        """The facets as (w, N): w . v >= N on the polyhedron, w primitive, w >= 0; coordinate hyperplanes have N = 0.

        They are extreme rays of the cone {(w, N): w >= 0, N >= 0, v . w >= N}, by double description (Motzkin 1953).
        """
        size = self.dimension + 1
        rays = [tuple(int(i == j) for j in range(size)) for i in range(size)]
        rows: list[tuple[int, ...]] = list(rays)
        for v in self.points:
            rays = _cut(rays, rows, (*v, -1))
            rows.append((*v, -1))
            if len(rays) > _MOST_FACETS:
                raise UndecidedError(f"the Newton polyhedron has more than {_MOST_FACETS} facets")
        # A ray with N below the least value of w on the points is extreme in the cone, but supports no facet.
        least = {ray: min(sum(a * b for a, b in zip(ray, v, strict=False)) for v in self.points) for ray in rays}
        return tuple((ray[:-1], ray[-1]) for ray in rays if ray[-1] == least[ray])

    def hit(self, direction: Sequence[Fraction]) -> Hit:
        """Return the point where the ray in a positive direction, shape (D,), meets the boundary (Varchenko 1976)."""
        ratios = {
            k: sum((b * w for b, w in zip(direction, weights, strict=True)), Fraction(0)) / level
            for k, (weights, level) in enumerate(self.facets)
            if level > 0
        }
        if not ratios:
            return Hit(None, 0, frozenset())
        least = min(ratios.values())
        facets = frozenset(k for k, ratio in ratios.items() if ratio == least)
        return Hit(least, self.rank(facets), facets)

    def rank(self, facets: Iterable[int]) -> int:
        """Return the rank of the normals of some facets: the codimension of the face where they meet."""
        return rank([self.facets[k][0] for k in facets])

    @cached_property
    def compact_faces(self) -> tuple[Face, ...]:
        """All compact faces, vertices first."""
        on = [
            frozenset(
                k for k, (w, level) in enumerate(self.facets) if sum(a * b for a, b in zip(w, v, strict=True)) == level
            )
            for v in self.points
        ]
        vertices = [self._face(facets, on) for facets in on]
        known = {face.points: face for face in vertices if face is not None and len(face.points) == 1}
        layer = list(known.values())
        while layer:
            found: dict[frozenset[int], Face] = {}
            for face in layer:
                for v, facets in enumerate(on):
                    joined = face.facets & facets
                    if v in face.points or not joined:
                        continue
                    new = self._face(joined, on)
                    if new is not None and new.points not in known:
                        found[new.points] = new
            known.update(found)
            layer = list(found.values())
            if len(known) > _MOST_FACES:
                raise UndecidedError(f"the Newton polyhedron has more than {_MOST_FACES} compact faces")
        return tuple(known.values())

    def _face(self, facets: frozenset[int], on: Sequence[frozenset[int]]) -> Face | None:
        """Return the face where facets meet, None if it is not compact: all facets contain some axis direction."""
        if any(all(self.facets[k][0][j] == 0 for k in facets) for j in range(self.dimension)):
            return None
        points = frozenset(i for i, here in enumerate(on) if facets <= here)
        return Face(points, frozenset.intersection(*(on[i] for i in points)))


def _cut(rays: list[tuple[int, ...]], rows: list[tuple[int, ...]], row: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the extreme rays of a cone after one more inequality row . x >= 0 (double description)."""
    level = [sum(a * b for a, b in zip(row, ray, strict=True)) for ray in rays]
    tight = [
        frozenset(k for k, r in enumerate(rows) if not sum(a * b for a, b in zip(r, ray, strict=True))) for ray in rays
    ]
    kept = [ray for ray, value in zip(rays, level, strict=True) if value >= 0]
    for i in (i for i, value in enumerate(level) if value > 0):
        for j in (j for j, value in enumerate(level) if value < 0):
            common = tight[i] & tight[j]
            if any(k not in (i, j) and common <= tight[k] for k in range(len(rays))):
                continue
            ray = tuple(level[i] * b - level[j] * a for a, b in zip(rays[i], rays[j], strict=True))
            unit = gcd(*ray)
            kept.append(tuple(x // unit for x in ray))
    return kept
