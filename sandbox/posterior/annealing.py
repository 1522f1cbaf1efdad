"""One run of adaptive tempered sequential Monte Carlo: a population led from the prior to ever colder posteriors.

Del Moral, Doucet, Jasra 2006; Chopin, Papaspiliopoulos 2020, ch. 17. From stage to stage the particles are weighted
with the ratio of the densities, the mean weight goes into the evidence, they are resampled (systematically, Kitagawa
1996) and moved. The next temperature is where the effective sample size has fallen to a set share (Jasra et al. 2011;
Zhou, Johansen, Aston 2016). The ladder of temperatures depends on the seed alone: what is asked branches off from it,
so no answer depends on what was asked before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sandbox.errors import InputError
from sandbox.posterior.moves import Floats, Ints, Repertoire
from sandbox.posterior.walk import Landscape, Target, Walk, new_repertoire

SHARE = 0.5
"""Effective sample size after weighting, relative to the population: what sets the next temperature."""

_INSIDE = 0.6  # share of the particles in a level set from which the way to it begins
_BEYOND = 100.0  # a level is not reached that is this many units of 1 / nbeta below the least energy found
_COLDEST = 1e60  # where minima that have a volume would have drawn in all but about nbeta^-λ of the mass
_NOTHING = 1e-300  # a difference of energies that no temperature can tell from 0
_ROUNDS = 200  # of prior draws until all particles have a finite energy


@dataclass(frozen=True)
class Stage:
    """A population that stands for a target: N particles of equal weight.

    points (N, D), energies (N,), log_prior (N,); ancestors (N,): from which prior draws they descend.
    log_evidence: log of the estimated integral of the target; evaluations: energies and gradients on the way here.
    sweeps: of moves at this stage; repertoire: what was learned about moves.
    """

    target: Target
    points: Floats
    energies: Floats
    log_prior: Floats
    ancestors: Ints
    log_evidence: float
    evaluations: int
    sweeps: int
    repertoire: Repertoire

    def log_weights(self, target: Target) -> Floats:
        """Return the logs of the ratios (N,) of another target's density to this one's, at the particles."""
        ratio = (self.target.nbeta - target.nbeta) * self.energies
        return np.where(self.energies <= target.level, ratio, -np.inf)


def log_mean(log_weights: Floats) -> float:
    """Return the log of the mean of exp(log_weights)."""
    top = float(log_weights.max())
    return top + float(np.log(np.mean(np.exp(log_weights - top)))) if np.isfinite(top) else top


def effective_share(log_weights: Floats) -> float:
    """Return the effective sample size (Kish 1965) of weights, over their number; 0 where all weights are 0."""
    top = float(log_weights.max())
    if np.isneginf(top):
        return 0.0
    weights = np.exp(log_weights - top)
    return float(weights.mean() ** 2 / np.mean(weights**2))


@dataclass
class Run:
    """One run: the ladder of stages it has climbed so far, and branches off it; `sweeps` is the most at a stage."""

    landscape: Landscape
    seed: int
    run: int
    particles: int
    sweeps: int
    ladder: list[Stage] = field(default_factory=list)
    following: float = 0.0

    def below(self, nbeta: float) -> Stage:
        """Return the coldest stage of the ladder that is not colder than nbeta, and climb until there is one."""
        while self.climbs(nbeta):
            pass
        return [stage for stage in self.ladder if stage.target.nbeta <= nbeta][-1]

    def climbs(self, nbeta: float) -> bool:
        """Add a stage to the ladder unless it would be colder than nbeta; return whether one was added."""
        if self.reaches(nbeta):
            return False
        if not self.ladder:
            self.ladder.append(self._start())
        else:
            self.ladder.append(self._moved(self.ladder[-1], Target(self.following), 0, len(self.ladder)))
        self.following = _colder(self.ladder[-1])
        return True

    def reaches(self, nbeta: float) -> bool:
        """Whether the ladder has all stages that are not colder than nbeta."""
        return self.following > nbeta or self.following == np.inf

    def at(self, nbeta: float) -> Stage:
        """Return a stage at this nbeta."""
        return self._led(self.below(nbeta), Target(nbeta))

    def inside(self, level: float) -> Stage | None:
        """Return a stage on the prior where K_n <= level, or None where no such point was found."""
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
            # At last points come so near to minima without a volume that their energies are rounded to 0.
            if level <= 0 and stage.target.nbeta > _COLDEST:
                return None
            climbed += 1

    def _led(self, stage: Stage, target: Target) -> Stage:
        """Lead a stage to the target, in steps whose effective sample size is the set share."""
        bits = [int(v) for v in np.array([target.nbeta, target.level]).view(np.uint64)]
        step = 0
        while stage.target != target:
            following = Target(_towards(stage, target), target.level)
            stage = self._moved(stage, following, 1, step, *bits)
            step += 1
        return stage

    def _start(self) -> Stage:
        """Draw the particles from the prior where the energy is finite, by rejection."""
        found: list[tuple[Floats, Floats]] = []
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
        """Weight, resample and move the particles."""
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
    """Return the nbeta at which the effective sample size is the set share; inf where it never falls so low."""
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
    """Return the nbeta, of those between the stage's and the target's, nearest the target's that is a step away."""

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


def _resampled(log_weights: Floats, rng: np.random.Generator) -> Ints:
    """Return indices (N,), each as often as its weight says up to less than one, in order.

    So relatives stay in the same half, and do not tell one another where to go.
    """
    weights = np.exp(log_weights - log_weights.max())
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    edges = np.cumsum(weights)
    chosen = np.searchsorted(edges, places * edges[-1])
    return np.asarray(np.minimum(chosen, len(weights) - 1))
