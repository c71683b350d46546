"""Comparing recipes with a dial: at matched safety, and by the area they command."""

from collections.abc import Sequence
from itertools import pairwise

from safety_tax.core.errors import PipelineError


def matched_loss(points: Sequence[tuple[float, float]], donor_gain: float, recovery: float = 0.5) -> float | None:
    """The utility loss at which a recipe recovers a share of its donor's safety gain.

    `points` are (gain, loss) in the order of the dial; where the dial passes the base, (0, 0) stands there. Between
    neighbours the loss is interpolated linearly, at the first pair that encloses `recovery`·`donor_gain`. None when
    no pair does (there is no extrapolation), and when the donor has no gain to recover.

    Raises PipelineError when `recovery` is not in (0, 1].
    """
    if not 0 < recovery <= 1:
        raise PipelineError(f"Expected a recovery above 0 and at most 1, found {recovery}; write .5 for half.")
    if donor_gain <= 0:
        return None
    target = recovery * donor_gain
    for (gain, loss), (next_gain, next_loss) in pairwise(points):
        if gain == target:
            return loss
        if min(gain, next_gain) <= target <= max(gain, next_gain):
            return loss + (target - gain) / (next_gain - gain) * (next_loss - loss)
    return points[-1][1] if points and points[-1][0] == target else None


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area that (safety, utility) points dominate beyond a reference (Zitzler and Thiele 1998), exact.

    More is better in both. The reference is (safety of the base, chance); a point that does not exceed it in both
    adds nothing.
    """
    area, height = 0.0, reference[1]
    # From the safest down, each point adds the strip by which its utility exceeds all safer ones.
    for safety, utility in sorted(points, reverse=True):
        if safety > reference[0] and utility > height:
            area += (safety - reference[0]) * (utility - height)
            height = utility
    return area
