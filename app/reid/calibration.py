"""From a similarity to a probability and a verdict, as learnt on animals that the network was not trained on.

`training/calibrate.py` fits what stands here; the manifest keeps it, for the one model_version it was fitted for.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, model_validator

from app.reid.spec import Spec

Float64 = NDArray[np.float64]
Verdict = Literal["same", "different", "uncertain"]

# What a verdict promises, each on pairs of the kind that it would be wrong on.
FALSE_MATCH_RATE = 0.01
FALSE_NON_MATCH_RATE = 0.05

Prior = Annotated[float, Field(gt=0, lt=1)]
_Open = Annotated[float, Field(gt=0, lt=1)]
# A threshold may lie a rounding step outside of [0, 1], where no similarity is high, or low, enough.
_Threshold = Annotated[float, Field(gt=-1e-9, lt=1 + 1e-9)]


class Logistic(Spec):
    """Log-odds = slope * similarity + intercept. Source: Platt 1999, "Probabilistic Outputs for SVMs", eq. 1."""

    method: Literal["logistic"] = "logistic"
    slope: float = Field(ge=0)
    intercept: float

    def log_odds(self, similarity: Float64) -> Float64:
        """(...) similarities -> (...) natural logarithms of the odds that a pair is the same."""
        return self.slope * similarity + self.intercept


class Isotonic(Spec):
    """A rising line through knots, level outside of them.

    similarities: of the knots, rising. probabilities: there, not falling, never 0 and never 1.
    Source: Zadrozny and Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates".
    """

    method: Literal["isotonic"] = "isotonic"
    similarities: tuple[float, ...] = Field(min_length=1, max_length=1_000)
    probabilities: tuple[_Open, ...] = Field(min_length=1, max_length=1_000)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        x, y = np.array(self.similarities), np.array(self.probabilities)
        if x.shape != y.shape or (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
            raise ValueError("the knots' similarities must rise, and as many probabilities must not fall")
        return self

    def log_odds(self, similarity: Float64) -> Float64:
        """(...) similarities -> (...) natural logarithms of the odds that a pair is the same."""
        probability = np.interp(similarity, self.similarities, self.probabilities)
        return np.asarray(np.log(probability) - np.log1p(-probability))


class Calibration(Spec):
    """What similarities of one model_version mean.

    model_version: of the float32 network that it was fitted for, in ONNX Runtime; other weights void it.
    curve: from a similarity to the log-odds where same and different pairs are as likely as `prior` says.
    same: similarities from here on are called `same`; at most 1 % of different pairs reach it (false-match rate).
    different: similarities up to here are called `different`; at most 5 % of same pairs stay below it (false-non-match
        rate). Never above `same`: of a network so good that 5 % of same pairs lie above 1 % of different ones, either
        verdict would keep its promise in between, and both thresholds are the middle, so that nothing is uncertain.
        Both rates hold for the animals that were fitted on, and in 95 % of draws from them.
        The rates are those of either kind of pair alone, whatever the prior.
    measured: figures on identities that the curve was not fitted on.
    version: 12 hex digits over all of this but `measured`.
    """

    model_version: str = Field(pattern="^[0-9a-f]{12}$")
    curve: Annotated[Logistic | Isotonic, Field(discriminator="method")]
    prior: Prior = 0.5
    same: _Threshold
    different: _Threshold
    measured: dict[str, JsonValue] = Field(default_factory=dict)
    version: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.different > self.same:
            raise ValueError("the threshold `different` must not be above `same`")
        if self.version != self._hash():
            raise ValueError(f"the version of these values is {self._hash()}: they were changed after they were fitted")
        return self

    @classmethod
    def fitted(
        cls,
        model_version: str,
        curve: Logistic | Isotonic,
        thresholds: tuple[float, float],
        measured: dict[str, JsonValue],
    ) -> "Calibration":
        """A new one, with its version, at a prior of 0.5; thresholds: `same` and `different`, in this order."""
        same, different = thresholds
        draft = cls.model_construct(model_version=model_version, curve=curve, same=same, different=different)
        return cls(
            model_version=model_version,
            curve=curve,
            same=same,
            different=different,
            measured=measured,
            version=draft._hash(),
        )

    @property
    def method(self) -> Literal["logistic", "isotonic"]:
        """The kind of curve."""
        return self.curve.method

    def probability(self, similarity: Float64, prior: float | None = None) -> Float64:
        """(...) similarities in [0, 1] -> (...) probabilities in [0, 1] that a pair shows the same animal.

        prior: the share of same pairs among those that are asked about, in (0, 1); the calibration's own by default.
        Another one multiplies the odds by the priors' odds ratio. Source: Saerens, Latinne and Decaestecker 2002,
        "Adjusting the Outputs of a Classifier to New a Priori Probabilities", eq. 2.4.
        """
        shift = 0.0 if prior is None else _log_odds(prior) - _log_odds(self.prior)
        return np.asarray(np.exp(-np.logaddexp(0.0, -(self.curve.log_odds(similarity) + shift))))

    def verdict(self, similarity: float) -> Verdict:
        """What one similarity in [0, 1] is called."""
        if similarity >= self.same:
            return "same"
        return "different" if similarity <= self.different else "uncertain"

    def _hash(self) -> str:
        facts = self.model_dump(mode="json", exclude={"measured", "version"})
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Scale:
    """A calibration read with one prior: what similarities are told in."""

    calibration: Calibration
    prior: float

    @classmethod
    def of(cls, calibration: Calibration, prior: float | None) -> "Scale":
        """With this prior, or without one the calibration's own."""
        return cls(calibration, calibration.prior if prior is None else prior)

    def probability(self, similarity: Float64) -> Float64:
        """(M,) similarities -> (M,) probabilities that a pair shows the same animal."""
        return self.calibration.probability(similarity, self.prior)

    def verdict(self, similarity: float) -> Verdict:
        """What one similarity is called; the prior has no part in it."""
        return self.calibration.verdict(similarity)

    def read(self, similarity: float) -> tuple[float, Verdict]:
        """One similarity -> its probability and its verdict."""
        return float(self.probability(np.array([similarity]))[0]), self.calibration.verdict(similarity)


def _log_odds(probability: float) -> float:
    return float(np.log(probability) - np.log1p(-probability))
