"""Surrogate models from scikit-learn that predict the objectives of offspring and select which ones to train.

This is pre-selection with an approximate model (Jin 2011, "Surrogate-assisted evolutionary computation"): the search
generates more offspring than it trains, and ranks the predicted objectives like measured ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from parapet.catalogue.genes import Gene

# With fewer measured genomes than this, or than two per gene with more than one choice, a model has too little data
# about most genes.
_LEAST = 12
# The largest number of rows to fit; the time is linear (forest) or cubic (Gaussian process) in it.
_MEMORY = {"forest": 500, "gaussian_process": 200}


class Surrogate:
    """A model of `kind`, fitted again for each selection, so that a resumed search selects as an undisturbed one does.

    "forest" is 40 extremely randomised trees per objective (Geurts, Ernst, Wehenkel 2006), which handle mixed and
    inactive genes. "gaussian_process" has one Matern kernel for all genes and objectives, and suits smooth objectives.
    Raises ValueError for any other kind.
    """

    def __init__(self, kind: str, seed: int) -> None:
        if kind not in _MEMORY:
            raise ValueError(f"a surrogate of kind {kind!r}; there are {', '.join(_MEMORY)}")
        self.kind, self.seed = kind, seed
        self.memory = _MEMORY[kind]

    def choose(self, measured: np.ndarray, objectives: np.ndarray, pool: np.ndarray, count: int, *,
               genes: Sequence[Gene], generation: int) -> np.ndarray:
        """Different indices into `pool` of the `count` vectors to train, the most promising first.

        measured: int (n, genes). objectives: finite floats (n, objectives), minimised. pool: int (m, genes). Only the
        last `memory` rows of `measured` and `objectives` are used. With fewer than 12 rows, or fewer than two per gene
        with more than one choice, the first `count` indices are returned; where the pool has no more than `count`
        vectors, all of them. The result is the same for the same arguments and seed, on any number of threads.
        """
        enough = max(_LEAST, 2 * sum(len(gene.choices) > 1 for gene in genes))
        if len(pool) <= count or len(measured) < enough:
            return np.arange(min(count, len(pool)))
        measured, objectives = measured[-self.memory:], objectives[-self.memory:]
        scale = objectives.std(axis=0)
        # Without scaling, the objective with the largest values would determine the model's fit.
        scaled = (objectives - objectives.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
        predicted = self._predict(features(measured, genes), scaled, features(pool, genes), generation)
        return _best(predicted, scaled, count)

    def _predict(self, known: np.ndarray, values: np.ndarray, pool: np.ndarray, generation: int) -> np.ndarray:
        from threadpoolctl import threadpool_limits  # imported here, as sklearn: slow, and most searches do not need it

        state = int(np.random.SeedSequence([self.seed, generation]).generate_state(1)[0])
        # Rounding in matrix products depends on the number of threads; trees on 500 rows are not faster with threads.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example a length scale at its bound, which does not concern the user
            predicted: np.ndarray = self._model(state).fit(known, values).predict(pool)
            return predicted.reshape(len(pool), -1)

    def _model(self, state: int) -> Any:
        if self.kind == "forest":
            from sklearn.ensemble import ExtraTreesRegressor
            from sklearn.multioutput import MultiOutputRegressor

            return MultiOutputRegressor(ExtraTreesRegressor(40, max_features=0.5, random_state=state))
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern, WhiteKernel

        return GaussianProcessRegressor(1.0 * Matern(2.0, nu=2.5) + WhiteKernel(0.1), random_state=state)


def features(vectors: np.ndarray, genes: Sequence[Gene]) -> np.ndarray:
    """Vectors (n, genes) as floats (n, features) in [0, 1]: one column per ordered gene, one-hot columns for others."""
    columns = []
    for place, gene in enumerate(genes):
        size = len(gene.choices)
        if size > 1 and gene.ordered:
            columns.append(vectors[:, place, None] / (size - 1))
        elif size > 1:
            columns.append(vectors[:, place, None] == np.arange(size))
    return np.concatenate(columns, axis=1).astype(float)


def _best(predicted: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
    """Indices of the best `count` rows of `predicted`, by non-dominated rank and then crowding, ranked with `known`.

    Ranked without `known`, offspring that are extreme in one objective would come first even where known points
    dominate them, and most of the benefit of a model would be lost.
    """
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    crowding = get_crowding_function("cd" if predicted.shape[1] < 3 else "mnn")
    # Known points come first: of equal points pymoo treats the later ones as crowded.
    values = np.concatenate([known, predicted])
    fronts = NonDominatedSorting().do(values)
    order = np.concatenate([front[np.argsort(-crowding.do(values[front]), kind="stable")] for front in fronts])
    places = order - len(known)
    return places[places >= 0][:count]
