"""The bootstrap of every metric, over many resamples at once.

A resample of N videos is a row of counts: how often each video was drawn. Every metric is a function of these counts
and of orders found once, so that no resample is ever copied or sorted (B. Efron and R. J. Tibshirani, An Introduction
to the Bootstrap, 1993, chapters 6 and 13). 1,000 resamples of 7,182 videos take seconds; one by one they took minutes.
"""

import numpy as np

from vqathinker_verl.checks import FloatArray
from vqathinker_verl.metrics.logistic import FLAT, LogisticFit, fit_standardised
from vqathinker_verl.metrics.pairs import GAP_ROUNDING

# What is reported of every benchmark, in this order.
METRICS = ("srcc", "krcc", "plcc", "rmse", "plcc_raw", "rmse_raw", "pair_accuracy")
# Resamples times videos held at once: 16 MB an array.
BLOCK_VALUES = 2_000_000
# Rows of the sign matrix of Kendall's correlation made at once.
SIGN_ROWS = 512


def resample_metrics(
    pred: FloatArray,
    mos: FloatArray,
    fit: LogisticFit,
    *,
    num_resamples: int,
    rng: np.random.Generator,
    min_gap: float = 0.0,
) -> FloatArray:
    """Return the metrics of bootstrap resamples of the videos, (num_resamples, 7), columns as METRICS.

    Two models' predictions for the same videos, resampled by equally seeded generators, give paired rows: row b of
    both is the same choice of videos.

    Args:
        pred: (N,) predicted MOS, finite.
        mos: (N,) MOS, finite.
        fit: the logistic of all videos, where the refits begin; without convergence its metrics stay NaN.
        num_resamples: how many.
        rng: draws the resamples.
        min_gap: smallest difference in MOS of a pair, see `metrics.pair_accuracy`.
    """
    num_videos = len(pred)
    metrics = np.full((num_resamples, len(METRICS)), np.nan)
    if not num_videos:
        return metrics
    sample = _Sample(pred, mos, min_gap)
    block = max(1, BLOCK_VALUES // num_videos)
    for begin in range(0, num_resamples, block):
        end = min(begin + block, num_resamples)
        metrics[begin:end] = sample.metrics(_draw_counts(num_videos, end - begin, rng), fit)
    return metrics


def percentile_bounds(draws: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper bounds (K,) of resampled metrics (B, K), resamples without the metric left out.

    NaN where no resample defines the metric.
    """
    bounds = np.full((2, draws.shape[1]), np.nan)
    tail = (1 - confidence) / 2
    for column in range(draws.shape[1]):
        values = draws[~np.isnan(draws[:, column]), column]
        if len(values):
            bounds[:, column] = np.quantile(values, [tail, 1 - tail])
    return bounds[0], bounds[1]


def _draw_counts(num_videos: int, num_resamples: int, rng: np.random.Generator) -> FloatArray:
    """How often each video is in each resample (B, N); every row sums to N."""
    drawn = rng.integers(num_videos, size=(num_resamples, num_videos))
    drawn += num_videos * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_videos)
    return counts.reshape(num_resamples, num_videos).astype(np.float64)


class _Groups:
    """Equal values of one variable: what ranks and ties are made of."""

    def __init__(self, values: FloatArray) -> None:
        self.values, self.index, sizes = np.unique(values, return_inverse=True, return_counts=True)
        self.order = np.argsort(values, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def sums(self, weights: FloatArray) -> FloatArray:
        """Add the videos' weights (B, N) up by value: (B, M) for M different values."""
        return np.asarray(np.add.reduceat(weights[:, self.order], self.starts, axis=1))


class _Sample:
    """What all resamples share."""

    def __init__(self, pred: FloatArray, mos: FloatArray, min_gap: float) -> None:
        self.pred, self.mos, self.num_videos = pred, mos, len(pred)
        self.pred_groups, self.mos_groups = _Groups(pred), _Groups(mos)
        self.min_gap = min_gap
        # How many of the different MOS are far enough below each of them to make a pair.
        values = self.mos_groups.values
        below = np.searchsorted(values, values - min_gap + GAP_ROUNDING, side="right")
        self.num_below = np.minimum(below, np.arange(len(values)))

    def metrics(self, counts: FloatArray, fit: LogisticFit) -> FloatArray:
        """All metrics of the resamples with these counts (B, N), (B, 7)."""
        pred_sizes, mos_sizes = self.pred_groups.sums(counts), self.mos_groups.sums(counts)
        defined = (pred_sizes.max(axis=1) < self.num_videos) & (mos_sizes.max(axis=1) < self.num_videos)
        metrics = np.full((len(counts), len(METRICS)), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):  # the undefined rows, overwritten below
            metrics[:, 0] = self._srcc(counts, pred_sizes, mos_sizes)
            metrics[:, 1], metrics[:, 6] = self._krcc_and_pairs(counts, pred_sizes, mos_sizes)
            if fit.converged:
                metrics[:, 2:4] = self._fitted(counts, pred_sizes, defined, fit)
            metrics[:, 4] = self._plcc_raw(counts)
        metrics[~defined, :5] = np.nan
        metrics[:, 5] = np.sqrt(counts @ (self.pred - self.mos) ** 2 / self.num_videos)
        return metrics

    def _srcc(self, counts: FloatArray, pred_sizes: FloatArray, mos_sizes: FloatArray) -> FloatArray:
        middle = (self.num_videos + 1) / 2
        pred_ranks, mos_ranks = (np.cumsum(s, axis=1) - (s - 1) / 2 - middle for s in (pred_sizes, mos_sizes))
        together = np.einsum(
            "bn,bn,bn->b", counts, pred_ranks[:, self.pred_groups.index], mos_ranks[:, self.mos_groups.index]
        )
        pred_spread = np.einsum("bm,bm,bm->b", pred_sizes, pred_ranks, pred_ranks)
        mos_spread = np.einsum("bm,bm,bm->b", mos_sizes, mos_ranks, mos_ranks)
        return _ratio(together, pred_spread, mos_spread)

    def _krcc_and_pairs(
        self, counts: FloatArray, pred_sizes: FloatArray, mos_sizes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Tau-b and the accuracy of pairs: sums over pairs of sign x sign x counts, as products of matrices.

        Counts and signs are small integers, and a row's sum stays below 2^24, so single precision is exact.
        """
        narrow = counts.astype(np.float32)
        difference, far_difference = np.zeros(len(counts)), np.zeros(len(counts))
        for begin in range(0, self.num_videos, SIGN_ROWS):
            end = min(begin + SIGN_ROWS, self.num_videos)
            signs = self._order_signs(self.pred_groups, begin, end) * self._order_signs(self.mos_groups, begin, end)
            difference += _pair_sums(narrow, signs, begin, end)
            if self.min_gap > 0:
                far_difference += _pair_sums(narrow, signs * self._far(begin, end), begin, end)
        pairs = self.num_videos * (self.num_videos - 1) / 2
        pred_untied, mos_untied = (pairs - (s * (s - 1) / 2).sum(axis=1) for s in (pred_sizes, mos_sizes))
        far_pairs = self._num_far_pairs(mos_sizes)
        right = 0.5 + 0.5 * (far_difference if self.min_gap > 0 else difference) / far_pairs
        return _ratio(difference, pred_untied, mos_untied), np.where(far_pairs > 0, right, np.nan)

    def _far(self, begin: int, end: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether the MOS of i and j are far enough apart for a pair, for i in [begin, end) and j in [0, end)."""
        index = self.mos_groups.index
        below = self.num_below[index]
        one = index[None, :end] < below[begin:end, None]
        return np.asarray(one | (index[begin:end, None] < below[None, :end]))

    def _num_far_pairs(self, mos_sizes: FloatArray) -> FloatArray:
        """How many pairs of each resample (B,) are far enough apart."""
        up_to = np.concatenate([np.zeros((len(mos_sizes), 1)), np.cumsum(mos_sizes, axis=1)], axis=1)
        return np.asarray((mos_sizes * up_to[:, self.num_below]).sum(axis=1))

    def _order_signs(self, groups: _Groups, begin: int, end: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Sign of value i - value j, for i in [begin, end) and j in [0, end)."""
        places = groups.index.astype(np.float32)
        return np.asarray(np.sign(places[begin:end, None] - places[None, :end]), dtype=np.float32)

    def _plcc_raw(self, counts: FloatArray) -> FloatArray:
        x, y = _standardised(self.pred), _standardised(self.mos)
        return _moments_correlation(self.num_videos, *(counts @ v for v in (x, y, x * x, y * y, x * y)))

    def _fitted(self, counts: FloatArray, sizes: FloatArray, defined: np.ndarray, fit: LogisticFit) -> FloatArray:
        """PLCC and RMSE after a refit in each resample, (B, 2).

        Only the mean MOS at each different prediction matters to the fit, and answers with two decimals have few.
        """
        from scipy.special import expit

        x, y = self.pred_groups.values, self.mos
        x_mean, x_std, y_mean, y_std = self.pred.mean(), self.pred.std(), y.mean(), y.std()
        x, y = (x - x_mean) / x_std, (y - y_mean) / y_std
        sums = self.pred_groups.sums(counts * y)
        start = [
            (fit.lower - y_mean) / y_std,
            (fit.upper - fit.lower) / y_std,
            (fit.centre - x_mean) / x_std,
            fit.scale / x_std,
        ]
        curve = np.full_like(sums, np.nan)
        for row in np.flatnonzero(defined):
            drawn = sizes[row] > 0
            size = sizes[row, drawn]
            (lower, rise, centre, scale), converged = fit_standardised(
                x[drawn], sums[row, drawn] / size, size, np.array(start)
            )
            if converged:
                curve[row] = lower + rise * expit((x - centre) / scale)
        y_squares = counts @ (y * y)
        squares = (sizes * curve**2).sum(axis=1) - 2 * (sums * curve).sum(axis=1) + y_squares
        # About its mean, since a curve may be nearly flat.
        curve -= (sizes * curve).sum(axis=1, keepdims=True) / self.num_videos
        curve_squares = (sizes * curve**2).sum(axis=1)
        y_spread = y_squares - (counts @ y) ** 2 / self.num_videos
        metrics = np.empty((len(counts), 2))
        metrics[:, 0] = _ratio((sums * curve).sum(axis=1), curve_squares, y_spread)
        metrics[curve_squares <= FLAT**2 * y_spread, 0] = np.nan
        metrics[:, 1] = y_std * np.sqrt(np.maximum(squares, 0) / self.num_videos)
        return metrics


def _pair_sums(
    counts: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    signs: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    begin: int,
    end: int,
) -> FloatArray:
    """Sums (B,) of counts x counts x signs over the pairs of i in [begin, end) and j below i."""
    products = counts[:, :begin] @ signs[:, :begin].T
    # Inside the block each pair comes twice.
    products += 0.5 * (counts[:, begin:end] @ signs[:, begin:].T)
    return np.asarray(np.einsum("bn,bn->b", products.astype(np.float64), counts[:, begin:end].astype(np.float64)))


def _standardised(values: FloatArray) -> FloatArray:
    """Values about 0 with deviation 1, so that sums of squares lose no digits; constants become 0."""
    centred = values - values.mean()
    spread = float(np.abs(centred).max())
    return np.asarray(centred / spread if spread else centred)


def _moments_correlation(
    num: int, x: FloatArray, y: FloatArray, xx: FloatArray, yy: FloatArray, xy: FloatArray
) -> FloatArray:
    """Pearson's correlation from sums over the `num` videos of each resample (B,)."""
    return _ratio(xy - x * y / num, xx - x * x / num, yy - y * y / num)


def _ratio(together: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
    return np.asarray(np.clip(together / np.sqrt(np.maximum(one * other, 0)), -1.0, 1.0))
