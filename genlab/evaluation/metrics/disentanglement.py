"""Disentanglement: three scores in [0, 1] of codes whose factors of variation are known.

All three need integer factors; `scene_factors` discretises the factors of scenes.
"""

import numpy as np

from genlab.data.sources.scenes.layout import FACTORS

SCENE = ('kind_0', 'colour_0', 'radius_0', 'x_0', 'y_0', 'rotation_0', 'background')
CONTINUOUS, LEVELS = ('radius_0', 'x_0', 'y_0', 'rotation_0'), 8
VOTES = 800  # number of training votes of the FactorVAE score, and of test votes
GROUP = 64  # examples per group of the FactorVAE score
TREES = 20  # per random forest of DCI
LEAF = 5  # examples per leaf at least, so that a forest does not memorise noise


def scene_factors(factors: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Discretises the factors of scenes: float [N, 31] -> (int [N, 7], their names).

    The input columns are named by genlab.data.sources.scenes.layout.FACTORS. The output has the factors that every
    scene has: kind, colour, radius, position and rotation of the largest shape, and the background. Continuous factors
    are binned into 8 levels with equally many scenes. The other factors are omitted, because they are missing in some
    scenes, and zero there.
    """
    columns = []
    for name in SCENE:
        column = np.asarray(factors)[:, FACTORS.index(name)]
        edges = np.quantile(column, np.arange(1, LEVELS) / LEVELS)
        columns.append(
            np.searchsorted(edges, column, side='right') if name in CONTINUOUS else np.rint(column).astype(int)
        )
    return np.stack(columns, 1), SCENE


def scores(codes: np.ndarray, factors: np.ndarray, names: tuple[str, ...], *, bins: int = 20, seed: int = 0) -> dict:
    """Returns MIG, DCI and the FactorVAE score of codes; 1 is best for all.

    Factors and units that do not vary are left out. Random codes have MIG and DCI of about 0, and a FactorVAE score of
    1 / F. 5,000 examples with 10 values take about ten seconds.

    Args:
      codes: [N, D], posterior means.
      factors: integers, [N, F].
      names: names of the factors.
      bins: per unit, for MIG.
      seed: seed of the random forests and groups.

    Returns:
      {name: score}; `mig_by_factor` is {factor: gap}.
    """
    varying = (factors != factors[:1]).any(0)
    factors, names = factors[:, varying], tuple(name for name, kept in zip(names, varying) if kept)
    codes = np.asarray(codes, np.float64)
    codes = codes[:, codes.std(0) > 1e-6 * np.abs(codes).max()]
    if not codes.shape[1]:
        return {
            'mig': 0.0,
            'dci_disentanglement': 0.0,
            'dci_completeness': 0.0,
            'dci_informativeness': 0.0,
            'factor_vae': 1 / len(names),
            'mig_by_factor': dict.fromkeys(names, 0.0),
        }
    gaps = mutual_information_gaps(codes, factors, bins=bins)
    return {
        'mig': float(gaps.mean()),
        **dci(codes, factors, seed=seed),
        'factor_vae': factor_vae(codes, factors, seed=seed),
        'mig_by_factor': dict(zip(names, map(float, gaps))),
    }


def mutual_information_gaps(codes: np.ndarray, factors: np.ndarray, *, bins: int = 20) -> np.ndarray:
    """Returns the mutual information gap between the two most informative units for each factor, [F], in [0, 1].

    MIG_k = (max_j I(z_j; v_k) - second max_j I(z_j; v_k)) / H(v_k) (Chen et al. 2018, section 4.1, equation 6). It is
    estimated by a histogram of each unit.

    Args:
      codes: [N, D].
      factors: integers, [N, F].
      bins: equally wide ones per unit.
    """
    from sklearn.metrics import mutual_info_score

    binned = [np.digitize(unit, np.linspace(unit.min(), unit.max(), bins + 1)[1:-1]) for unit in codes.T]
    binned += [np.zeros(len(codes), int)] * (len(binned) == 1)  # a single unit: the second best has no information
    information = np.array([[mutual_info_score(unit, factor) for unit in binned] for factor in factors.T])
    second, best = np.sort(information, 1)[:, -2:].T
    return (best - second) / np.array([mutual_info_score(factor, factor) for factor in factors.T])


def dci(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Returns disentanglement, completeness and informativeness (Eastwood & Williams 2018, section 2).

    R_jk is the importance of unit j in the random forest that predicts factor k. Disentanglement is 1 - entropy of row
    j in base F, averaged over units with their importance as weights. Completeness is 1 - entropy of column k in base
    D, averaged over factors. Informativeness is the mean of 1 - error / (error of the most frequent value); the paper
    reports the error itself. The error is measured on a fifth of the examples, which the forests are not trained on.

    Args:
      codes: [N, D].
      factors: integers, [N, F].
      seed: seed of the split and the forests.
    """
    from sklearn.ensemble import RandomForestClassifier

    order = np.random.default_rng(seed).permutation(len(codes))
    train, test = order[len(codes) // 5 :], order[: len(codes) // 5]
    columns, informed = [], []
    for factor in factors.T:
        # Each split may use all units. With a random subset, importance leaks to units that lack better alternatives.
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, max_features=None, random_state=seed, n_jobs=-1)
        forest.fit(codes[train], factor[train])
        columns.append(forest.feature_importances_)
        values, counts = np.unique(factor[train], return_counts=True)
        guess = max((factor[test] != values[counts.argmax()]).mean(), 1e-12)
        informed.append(max(1 - (forest.predict(codes[test]) != factor[test]).mean() / guess, 0))
    importance = np.stack(columns, 1)
    units = importance.sum(1) / max(importance.sum(), 1e-12)
    return {
        'dci_disentanglement': float(units @ (1 - _entropy(importance))),
        'dci_completeness': float((1 - _entropy(importance.T)).mean()),
        'dci_informativeness': float(np.mean(informed)),
    }


def _entropy(rows: np.ndarray) -> np.ndarray:
    """Returns the entropy in base C of each row of importances [R, C]: 0 for a single column, 1 for a uniform row."""
    share = rows / np.maximum(rows.sum(1, keepdims=True), 1e-12)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)), 1) / np.log(max(rows.shape[1], 2))
    return np.where(rows.sum(1) > 0, entropy, 1)


def factor_vae(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> float:
    """Returns how accurately the unit with the least variance in a group predicts the factor that the group shares.

    Codes are divided by their standard deviation; a majority vote maps units to factors (Kim & Mnih 2018, section 4). A
    group has at most 64 examples that share the value of one factor. Of 1,600 groups, half set the votes and half
    measure accuracy.

    Args:
      codes: [N, D].
      factors: integers, [N, F].
      seed: seed of the groups.
    """
    rng = np.random.default_rng(seed)
    codes = codes / codes.std(0)
    chosen = rng.integers(factors.shape[1], size=2 * VOTES)
    least = np.array([_least_varying(codes, factors[:, factor], rng) for factor in chosen])
    votes = np.zeros((codes.shape[1], factors.shape[1]))
    np.add.at(votes, (least[:VOTES], chosen[:VOTES]), 1)
    return float((votes.argmax(1)[least[VOTES:]] == chosen[VOTES:]).mean())


def _least_varying(codes: np.ndarray, factor: np.ndarray, rng: np.random.Generator) -> int:
    """Returns the unit with the least variance among examples that share a random example's factor value."""
    members = np.flatnonzero(factor == factor[rng.integers(len(factor))])
    return int(codes[rng.permutation(members)[:GROUP]].var(0).argmin())
