"""Which items tell models apart: item response analysis of a crowd's answers, arrays to records.

1. *Can this crowd say anything?* One at chance cannot. Tested against coins: the spread of the
   checkpoints' scores beside their spread after the checkpoints are exchanged within each quad,
   which keeps every item's difficulty and all that a quad's items share.
2. *Models.* 1PL against 2PL by AIC: do items differ in discrimination at all? (Twice the
   log-likelihoods' difference is no chi-square here: items outnumber respondents.)
3. *Each item.* Its discrimination is the slope, in logits, on the respondent's ability in standard
   deviations of this crowd, with bounds by profile likelihood. An item is `flat` where the slope is
   surely less than 0.65, where Baker (2001) begins to call it moderate; false discoveries among
   those named are held to 5 % (Benjamini & Hochberg 1995).

Items of a quad share their text: an item's ability, and its item-rest correlation, are by the other
quads alone; reliability (Cronbach's α) is over quads. Step 2 ignores it, so its AIC flatters 2PL.
Respondents of one checkpoint (it, asked in several ways) are alike beyond ability: the correlation
of their residuals, over all items, widens every bound and lowers the number of respondents
that the crowd is worth (Kish's design effect).

Small crowds are noisy: sixty respondents show fewer than half of the flat items, a hundred more.
Does not see: guessing, a second ability, or that checkpoints descend from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from supervisor.reflectivity.crowd_worth import design_effect, spread, summed
from supervisor.statistics.latent_trait import STEEPEST, Fit, abilities, fit
from supervisor.statistics.logistic import Slopes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
THRESHOLD = 0.65
FEWEST_CHECKPOINTS, FEWEST_RESPONDENTS = 3, 20
_LEVEL = 0.95

Word = Literal["flat", "tells", "unsure", "all right", "none right", "unanswered"]


@dataclass(frozen=True)
class ItemFigures:
    """One item. `share` right of `n` answers; `difficulty` (with its standard error) in standard
    deviations of the crowd's ability, by the 1PL; `discrimination` by the 2PL, `low` and `high`
    each a bound at 95 % (infinite where the answers set none); `item_rest` a correlation; adjusted
    p-values against a slope of 0.65 and more (`flat_p`), and of 0 and less (`tells_p`).

    NaN throughout but `share` where nothing is known: everybody or nobody gets the item right, or
    the crowd is blind (then `unsure`).
    """

    word: Word
    n: int
    share: float
    difficulty: float = np.nan
    difficulty_error: float = np.nan
    discrimination: float = np.nan
    low: float = np.nan
    high: float = np.nan
    item_rest: float = np.nan
    flat_p: float = np.nan
    tells_p: float = np.nan


@dataclass(frozen=True)
class Crowd:
    """`blind`: why the crowd can say nothing of any item; empty where it can.

    `p_value`: that scores spread as coins', NaN where not tested. `effective`: the independent
    respondents that the crowd is worth, NaN where it is too alike to be fitted, as then are both
    AICs.
    """

    respondents: int
    checkpoints: int
    effective: float
    reliability: float
    p_value: float
    aic_1pl: float
    aic_2pl: float
    blind: str
    items: tuple[ItemFigures, ...]

    @property
    def better(self) -> Literal["1PL", "2PL"] | None:
        """The model with the smaller AIC."""
        if self.blind:
            return None
        return "2PL" if self.aic_2pl < self.aic_1pl else "1PL"


def analyse(
    responses: Floats, checkpoint: Sequence[str], quad: Sequence[str], seed: int = 0
) -> Crowd:
    """What a crowd's answers say of each item.

    `responses`: [N respondents, I items], 1, 0, or NaN where there is no answer; `checkpoint`: [N],
    `quad`: [I], by name. `seed` is of the exchanges. Raises ValueError on other values or shapes.
    """
    if responses.shape != (len(checkpoint), len(quad)):
        raise ValueError(
            f"responses are {responses.shape}; there are {len(checkpoint)} respondents and "
            f"{len(quad)} items"
        )
    known = responses[~np.isnan(responses)]
    if not np.isin(known, (0.0, 1.0)).all():
        raise ValueError("responses are 1, 0 or NaN")
    answering = ~np.isnan(responses).all(axis=1)
    responses = responses[answering]
    names = np.unique(np.array(checkpoint)[answering], return_inverse=True)[1].astype(np.int64)
    n = (~np.isnan(responses)).sum(0)
    right = np.nansum(responses, axis=0)
    varied = (right > 0) & (right < n)
    groups = np.unique(np.array(quad)[varied], return_inverse=True)[1].astype(np.int64)
    checkpoints, told = len(set(names.tolist())), responses[:, varied]

    def found(
        blind: str, p: float = np.nan, alpha: float = np.nan, fitted: _Fitted | None = None
    ) -> Crowd:
        rows = iter(fitted.items if fitted and not blind else [])
        return Crowd(
            respondents=len(responses),
            checkpoints=checkpoints,
            effective=fitted.effective if fitted else np.nan,
            reliability=alpha,
            p_value=p,
            aic_1pl=fitted.aic_1pl if fitted else np.nan,
            aic_2pl=fitted.aic_2pl if fitted else np.nan,
            blind=blind,
            items=tuple(
                next(rows, ItemFigures("unsure", int(n[i]), float(right[i] / n[i])))
                if varied[i]
                else _unvaried(int(n[i]), int(right[i]))
                for i in range(len(n))
            ),
        )

    if checkpoints < FEWEST_CHECKPOINTS or len(responses) < FEWEST_RESPONDENTS:
        return found(
            f"{len(responses)} respondents of {checkpoints} checkpoints are too few; "
            f"{FEWEST_RESPONDENTS} of {FEWEST_CHECKPOINTS} at least"
        )
    if len(set(groups.tolist())) < 2:
        return found("fewer than two quads are answered differently by different respondents")
    p, alpha = spread(told, names, groups, seed)
    if p > 1 - _LEVEL:
        return found(f"scores spread no more than coins' (p = {p:.2g}): too alike", p, alpha)
    fitted = _fitted(told, names, groups)
    few = fitted.effective < FEWEST_RESPONDENTS
    blind = (
        f"answers of one checkpoint are so alike that {len(responses)} respondents are worth "
        f"{fitted.effective:.0f}; {FEWEST_RESPONDENTS} at least"
    )
    return found(blind if few else "", p, alpha, fitted)


@dataclass(frozen=True)
class _Fitted:
    effective: float
    aic_1pl: float
    aic_2pl: float
    items: list[ItemFigures]


def _fitted(responses: Floats, checkpoint: Integers, group: Integers) -> _Fitted:
    one, two = fit(responses, common_slope=True), fit(responses, common_slope=False)
    ability = abilities(responses, two, group)[group]
    inflation = design_effect(Slopes(ability, responses.T, STEEPEST).residuals().T, checkpoint)
    effective = len(responses) / inflation
    slopes = Slopes(ability, responses.T, STEEPEST, inflation)
    # Student's law rather than the normal: at the far tails that many items ask for, small crowds
    # would otherwise name too many.
    law = stats.t(max(effective - 2, 1.0))
    low, high = slopes.bounds(float(law.ppf(_LEVEL)))
    flat = stats.false_discovery_control(law.cdf(slopes.roots(THRESHOLD)))
    tells = stats.false_discovery_control(law.sf(slopes.roots(0.0)))
    error = _difficulty_error(responses, one) * np.sqrt(inflation)
    rest = _item_rest(responses, group)
    words: list[Word] = [
        "flat" if is_flat <= 1 - _LEVEL else "tells" if tells_apart <= 1 - _LEVEL else "unsure"
        for is_flat, tells_apart in zip(flat, tells, strict=True)
    ]
    items = [
        ItemFigures(
            words[i],
            int((~np.isnan(responses[:, i])).sum()),
            float(np.nanmean(responses[:, i])),
            float(-one.intercept[i] / one.slope[i]),
            float(error[i]),
            float(slopes.slope[i]),
            float(low[i]),
            float(high[i]),
            float(rest[i]),
            float(flat[i]),
            float(tells[i]),
        )
        for i in range(len(words))
    ]
    return _Fitted(effective, one.aic, two.aic, items)


def _unvaried(n: int, right: int) -> ItemFigures:
    if n == 0:
        return ItemFigures("unanswered", 0, np.nan)
    return ItemFigures("all right" if right else "none right", n, right / n)


def _item_rest(responses: Floats, group: Integers) -> Floats:
    """Correlation of each item with the share right in the other quads: [I]."""
    seen = (~np.isnan(responses)).astype(np.float64)
    right = np.nan_to_num(responses)
    rest_right = right.sum(1)[:, None] - summed(right.T, group).T[:, group]
    rest_seen = seen.sum(1)[:, None] - summed(seen.T, group).T[:, group]
    rest = np.divide(rest_right, rest_seen, out=np.full_like(right, np.nan), where=rest_seen > 0)
    found = np.full(right.shape[1], np.nan)
    for i in range(len(found)):
        both = (seen[:, i] > 0) & ~np.isnan(rest[:, i])
        if np.ptp(right[both, i]) > 0 and np.ptp(rest[both, i]) > 0:
            found[i] = np.corrcoef(right[both, i], rest[both, i])[0, 1]
    return found


def _difficulty_error(responses: Floats, one: Fit) -> Floats:
    """Standard error of -intercept/slope by the 1PL, the common slope taken as known: [I]."""
    ability = abilities(responses, one)[0]
    p = expit(one.slope * ability[:, None] + one.intercept)
    information = (p * (1 - p) * ~np.isnan(responses)).sum(0)
    return np.asarray(1 / np.sqrt(information) / np.abs(one.slope))
