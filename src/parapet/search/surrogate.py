"""A cheap guess of what training would show, from scikit-learn: it picks which offspring are worth training.

Pre-selection with an approximate model (Jin 2011, "Surrogate-assisted evolutionary computation"): the search makes more
offspring than it trains, and the model's predictions are sorted like measured objectives would be.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from parapet.catalogue.genes import Gene

# Below so many measured genomes, or two for each gene that has a choice, a model has seen too little of most genes.
_LEAST = 12
# Fitting takes time in proportion to the rows (forest) or to their cube (Gaussian process).
_MEMORY = {"forest": 500, "gaussian_process": 200}


class Surrogate:
    """A model of `kind`, made anew for each choice, so that a resumed search chooses as an undisturbed one does.

    "forest" is 40 extremely randomised trees for each objective (Geurts, Ernst, Wehenkel 2006), which take mixed and
    switched-off genes as they are; "gaussian_process" has one Matern kernel for all genes and objectives, and is for
    smooth ones.
    """

    def __init__(self, kind: str, seed: int) -> None:
        if kind not in _MEMORY:
            raise ValueError(f"a surrogate of kind {kind!r}; there are {', '.join(_MEMORY)}")
        self.kind, self.seed = kind, seed
        self.memory = _MEMORY[kind]

    def choose(self, measured: np.ndarray, objectives: np.ndarray, pool: np.ndarray, count: int, *,
               genes: Sequence[Gene], generation: int) -> np.ndarray:
        """Places in `pool` of the `count` vectors to train, different ones, the most promising first.

        measured: int (n, genes); objectives: finite floats (n, objectives), minimised, of which the last `memory` rows
        count; pool: int (m, genes). With fewer than 12 rows, or two for each gene that has a choice, these are the
        first `count`; all of the pool where it holds no more. The same for the same arguments and seed, on any number
        of threads.
        """
        enough = max(_LEAST, 2 * sum(len(gene.choices) > 1 for gene in genes))
        if len(pool) <= count or len(measured) < enough:
            return np.arange(min(count, len(pool)))
        measured, objectives = measured[-self.memory:], objectives[-self.memory:]
        scale = objectives.std(axis=0)
        # Otherwise the objective with the largest numbers would decide where trees split.
        scaled = (objectives - objectives.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
        predicted = self._predict(features(measured, genes), scaled, features(pool, genes), generation)
        return _best(predicted, scaled, count)

    def _predict(self, known: np.ndarray, values: np.ndarray, pool: np.ndarray, generation: int) -> np.ndarray:
        from threadpoolctl import threadpool_limits  # sklearn takes a second, and most searches do without

        state = int(np.random.SeedSequence([self.seed, generation]).generate_state(1)[0])
        # Sums of matrix products depend on how many threads share them; trees of 500 rows gain nothing by threads.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length scale at its bound is no news to who runs a search
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
    """Vectors (n, genes) as floats (n, features) in [0, 1]: ordered genes by place, of the others a column a choice."""
    columns = []
    for place, gene in enumerate(genes):
        size = len(gene.choices)
        if size > 1 and gene.ordered:
            columns.append(vectors[:, place, None] / (size - 1))
        elif size > 1:
            columns.append(vectors[:, place, None] == np.arange(size))
    return np.concatenate(columns, axis=1).astype(float)


def _best(predicted: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
    """Places of `count` rows of `predicted` by non-dominated rank, then the least crowded, among what is `known`.

    Sorted by themselves the offspring at the ends of every objective would come first, however far they are behind what
    is known, and most of what a model gains is lost.
    """
    from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    crowding = get_crowding_function("cd" if predicted.shape[1] < 3 else "mnn")
    # What is known stands first: of equal points pymoo takes the later ones for crowded.
    values = np.concatenate([known, predicted])
    fronts = NonDominatedSorting().do(values)
    order = np.concatenate([front[np.argsort(-crowding.do(values[front]), kind="stable")] for front in fronts])
    places = order - len(known)
    return places[places >= 0][:count]
