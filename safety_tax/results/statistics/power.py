"""How many items a paired comparison needs, and what a given number can see."""

import math

from scipy import stats

from safety_tax.core.errors import PipelineError


def items_needed(effect: float, discordance: float, power: float = 0.8, significance: float = 0.05) -> int:
    """Items for McNemar's test to find a difference `effect` with probability `power`, two-sided `significance`.

    n = (z_a·√ψ + z_b·√(ψ − d²))² / d² (Miettinen 1968; Connor 1987), rounded up; effect d and discordance ψ are
    fractions. A difference of d needs a discordance of at least d, so a smaller ψ counts as d.

    Raises PipelineError when `effect` is not in (0, 1], `discordance` not in [0, 1], or `power` not in [.5, 1).
    """
    if not 0 < effect <= 1:
        raise PipelineError(f"Expected an effect above 0 and at most 1, found {effect}; write .02 for 2 points.")
    z_a, z_b = _quantiles(discordance, power, significance)
    share = max(discordance, effect)
    return math.ceil((z_a * math.sqrt(share) + z_b * math.sqrt(share - effect**2)) ** 2 / effect**2)


def resolves(discordance: float, n: int, power: float = 0.8, significance: float = 0.05) -> float | None:
    """The smallest loss, a fraction, that a paired comparison of `n` items finds with probability `power`.

    The formula of `items_needed` solved for d. Where the answer would exceed ψ (few items, or variants that hardly
    differ) the discordance grows with the loss, every flip a loss: ψ = d. None when even the loss of every item would
    be missed, which takes fewer than four.

    Raises PipelineError as `items_needed` does, and when `n` is below 1.
    """
    if n < 1:
        raise PipelineError(f"Expected at least one item, found {n}; check that the comparison has rows.")
    z_a, z_b = _quantiles(discordance, power, significance)
    # (√n·d − z_a·√ψ)² = z_b²·(ψ − d²), the larger root in d.
    spread = n + z_b**2 - z_a**2
    if spread >= 0:
        loss = math.sqrt(discordance) * (math.sqrt(n) * z_a + z_b * math.sqrt(spread)) / (n + z_b**2)
        if 0 < loss <= discordance:
            return loss
    # ψ = d: n·(1 − u²) = (z_a + z_b·u)² with u = √(1 − d); a root in [0, 1] exists when n ≥ z_a².
    if n < z_a**2:
        return None
    u = (math.sqrt(n * spread) - z_a * z_b) / (n + z_b**2)
    return 1 - u**2


def _quantiles(discordance: float, power: float, significance: float) -> tuple[float, float]:
    if not 0 <= discordance <= 1:
        raise PipelineError(f"Expected a discordance in [0, 1], found {discordance}; give the share that differs.")
    if not (0.5 <= power < 1 and 0 < significance < 1):
        raise PipelineError(
            f"Expected a power in [.5, 1) and a significance in (0, 1), found {power} and {significance}; "
            "write .8 and .05 for 80 % and 5 %."
        )
    return float(stats.norm.isf(significance / 2)), float(stats.norm.ppf(power))
