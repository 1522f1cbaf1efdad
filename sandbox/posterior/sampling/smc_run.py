"""One run of adaptive tempered sequential Monte Carlo (SMC): particles led from the prior to ever colder posteriors.

Del Moral, Doucet, Jasra 2006; Chopin, Papaspiliopoulos 2020, ch. 17. From stage to stage the particles are weighted
with the ratio of the densities, the mean weight multiplies the evidence, and the particles are resampled
(systematically, Kitagawa 1996) and moved. The next nbeta is the one at which the effective sample size has fallen to a
set share (Jasra et al. 2011; Zhou, Johansen, Aston 2016). The ladder of stages depends on the seed alone. A requested
stage branches off from the ladder, so no result depends on earlier requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sandbox.posterior.sampling.mcmc import Landscape, Target, Walk, new_repertoire
from sandbox.posterior.sampling.moves import Ints, Repertoire
from sandbox.tools.arrays import Array
from sandbox.tools.errors import InputError

SHARE = 0.5
"""Effective sample size after weighting, over the number of particles; it determines the next nbeta."""

_INSIDE = 0.6  # a stage with this share of its particles in a level set is led to that level set
_BEYOND = 100.0  # a level more than this many units of 1 / nbeta below the least energy found is out of reach
_COLDEST = 1e60  # nbeta at which minima that have a volume would hold all but about nbeta^-λ of the mass
_NOTHING = 1e-300  # a smaller difference of energies counts as 0 at every nbeta
_ROUNDS = 200  # most rounds of prior draws until all particles have a finite energy


@dataclass(frozen=True)
class Stage:
    """N particles of equal weight that represent a target.

    points (N, D), energies (N,), log_prior (N,); ancestors (N,): indices of the prior draws from which they descend.
    log_evidence: log of the estimated integral of the target; evaluations: of energies so far, a gradient counts as 2.
    sweeps: number of sweeps of moves at this stage; repertoire: statistics of the moves so far.
    """

    target: Target
    points: Array
    energies: Array
    log_prior: Array
    ancestors: Ints
    log_evidence: float
    evaluations: int
    sweeps: int
    repertoire: Repertoire

    def log_weights(self, target: Target) -> Array:
        """Return the logs (N,) of the ratios of another target's density to this target's, at the particles."""
        ratio = (self.target.nbeta - target.nbeta) * self.energies
        return np.where(self.energies <= target.level, ratio, -np.inf)


def log_mean(log_weights: Array) -> float:
    """Return the log of the mean of exp(log_weights), with log_weights of shape (N,)."""
    top = float(log_weights.max())
    return top + float(np.log(np.mean(np.exp(log_weights - top)))) if np.isfinite(top) else top


def effective_share(log_weights: Array) -> float:
    """Return the effective sample size (Kish 1965) of N weights, divided by N; 0 if all weights are 0."""
    top = float(log_weights.max())
    if np.isneginf(top):
        return 0.0
    weights = np.exp(log_weights - top)
    return float(weights.mean() ** 2 / np.mean(weights**2))


@dataclass
class Run:
    """A run: the ladder of its stages so far; `following`: nbeta of the next one; `sweeps`: most sweeps at a stage."""

    landscape: Landscape
    seed: int
    run: int
    particles: int
    sweeps: int
    ladder: list[Stage] = field(default_factory=list)
    following: float = 0.0

    def below(self, nbeta: float) -> Stage:
        """Return the coldest stage that is not colder than nbeta, after extending the ladder as far as nbeta."""
        while self.climbs(nbeta):
            pass
        return [stage for stage in self.ladder if stage.target.nbeta <= nbeta][-1]

    def climbs(self, nbeta: float) -> bool:
        """Add a stage to the ladder unless it would be colder than nbeta; return whether a stage was added."""
        if self.reaches(nbeta):
            return False
        if not self.ladder:
            self.ladder.append(self._start())
        else:
            self.ladder.append(self._moved(self.ladder[-1], Target(self.following), 0, len(self.ladder)))
        self.following = _colder(self.ladder[-1])
        return True

    def reaches(self, nbeta: float) -> bool:
        """Return whether the ladder has all stages that are not colder than nbeta."""
        return self.following > nbeta or self.following == np.inf

    def at(self, nbeta: float) -> Stage:
        """Return a stage at this nbeta, led there from the ladder."""
        return self._led(self.below(nbeta), Target(nbeta))

    def inside(self, level: float) -> Stage | None:
        """Return a stage for the prior restricted to {K_n <= level}, or None if no point of this set was found."""
        climbed = 0
        while True:
            while climbed >= len(self.ladder):
                if not self.climbs(np.inf):
                    return None
            stage = self.ladder[climbed]
            share = float(np.mean(stage.energies <= level))
            if share >= _INSIDE or (self.following == np.inf and climbed == len(self.ladder) - 1 and share > 0):
                return self._led(stage, Target(0.0, level))
            if stage.target.nbeta * (stage.energies.min() - level) > _BEYOND:
                return None
            # At such nbeta points are so near to minima without a volume that their energies are rounded to 0.
            if level <= 0 and stage.target.nbeta > _COLDEST:
                return None
            climbed += 1

    def _led(self, stage: Stage, target: Target) -> Stage:
        """Return a stage led to the target in steps, each as long as the effective sample size allows."""
        bits = [int(v) for v in np.array([target.nbeta, target.level]).view(np.uint64)]
        step = 0
        while stage.target != target:
            following = Target(_towards(stage, target), target.level)
            stage = self._moved(stage, following, 1, step, *bits)
            step += 1
        return stage

    def _start(self) -> Stage:
        """Return the first stage: draws from the prior restricted to finite energy, by rejection."""
        found: list[tuple[Array, Array]] = []
        kept = drawn = 0
        while kept < self.particles:
            if drawn >= _ROUNDS * self.particles:
                raise InputError(f"the energy is infinite at {drawn - kept} of {drawn} draws from the prior")
            purpose = f"witness, run {self.run}, round {drawn // self.particles}"
            points = np.asarray(self.landscape.prior.draw(self.particles, self.seed, purpose), dtype=np.float64)
            energies = self.landscape.energies(points)
            finite = np.isfinite(energies)
            found.append((points[finite], energies[finite]))
            kept, drawn = kept + int(finite.sum()), drawn + self.particles
        points, energies = (np.concatenate(parts)[: self.particles] for parts in zip(*found, strict=True))
        return Stage(
            target=Target(0.0),
            points=points,
            energies=energies,
            log_prior=self.landscape.log_prior(points),
            ancestors=np.arange(self.particles),
            log_evidence=float(np.log(kept / drawn)),
            evaluations=drawn,
            sweeps=0,
            repertoire=new_repertoire(),
        )

    def _moved(self, stage: Stage, target: Target, *purpose: int) -> Stage:
        """Return the stage at the target: weight, resample and move the particles."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.run, *purpose])))
        log_weights = stage.log_weights(target)
        chosen = _resampled(log_weights, rng)
        walk = Walk(
            self.landscape,
            target,
            stage.points[chosen],
            stage.energies[chosen],
            stage.log_prior[chosen],
            stage.repertoire,
            rng,
        )
        sweeps = walk.until_decorrelated(self.sweeps)
        return Stage(
            target=target,
            points=walk.points,
            energies=walk.energies,
            log_prior=walk.log_prior,
            ancestors=stage.ancestors[chosen],
            log_evidence=stage.log_evidence + log_mean(log_weights),
            evaluations=stage.evaluations + walk.evaluations,
            sweeps=sweeps,
            repertoire=stage.repertoire.learned(walk.tally),
        )


def _colder(stage: Stage) -> float:
    """Return the nbeta at which the effective sample size is the set share; inf if it never falls so low."""
    excess = stage.energies - stage.energies.min()
    if np.mean(excess < _NOTHING) >= SHARE:
        return np.inf

    def share(step: float) -> float:
        return effective_share(-step * excess)

    step = 1.0 / float(excess.mean())
    while share(step) > SHARE:
        step *= 2.0
    low, high = 0.0, step
    while high - low > 1e-3 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) > SHARE else (low, middle)
    following = stage.target.nbeta + low
    return following if following > stage.target.nbeta else np.inf


def _towards(stage: Stage, target: Target) -> float:
    """Return the nbeta nearest to the target's that one step from the stage can reach."""

    def share(nbeta: float) -> float:
        return effective_share(stage.log_weights(Target(nbeta, target.level)))

    near, far = stage.target.nbeta, target.nbeta
    enough = min(SHARE, 0.9 * share(near))
    if share(far) >= enough:
        return far
    start = near
    while abs(far - near) > 1e-3 * abs(far - start):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if share(middle) >= enough else (near, middle)
    return near


def _resampled(log_weights: Array, rng: np.random.Generator) -> Ints:
    """Return sorted indices (N,); each occurs N times its normalised weight, up to a difference of less than one.

    Sorted, relatives stay in the same half of the particles; only points of the other half guide a particle's moves.
    """
    weights = np.exp(log_weights - log_weights.max())
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    edges = np.cumsum(weights)
    chosen = np.searchsorted(edges, places * edges[-1])
    return np.asarray(np.minimum(chosen, len(weights) - 1))
