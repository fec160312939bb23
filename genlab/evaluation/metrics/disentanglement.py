"""Whether each value of a code stands for one factor of variation: three scores in [0, 1] of codes whose factors are known.

All three ask for factors that are integers; `scene_factors` makes them of the factors of scenes.
"""

import numpy as np

from genlab.data.sources.scenes.layout import FACTORS

SCENE = ('kind_0', 'colour_0', 'radius_0', 'x_0', 'y_0', 'rotation_0', 'background')
CONTINUOUS, LEVELS = ('radius_0', 'x_0', 'y_0', 'rotation_0'), 8
VOTES, GROUP = 800, 64  # of the FactorVAE score: votes to learn from, and as many to judge by; examples in a group
TREES, LEAF = 20, 5  # of the random forests of DCI; a leaf of five examples does not learn noise by heart


def scene_factors(factors: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Factors of scenes, float [N, 31] as genlab.data.sources.scenes.layout.FACTORS names them -> (int [N, 7], their names).

    These are the kind, colour, size, place and rotation of the largest shape, and the background: what every scene has. What
    is continuous falls into 8 levels of equally many scenes. (The others are missing in some scenes, and zeros there.)"""
    columns = []
    for name in SCENE:
        column = np.asarray(factors)[:, FACTORS.index(name)]
        edges = np.quantile(column, np.arange(1, LEVELS) / LEVELS)
        columns.append(
            np.searchsorted(edges, column, side='right') if name in CONTINUOUS else np.rint(column).astype(int)
        )
    return np.stack(columns, 1), SCENE


def scores(codes: np.ndarray, factors: np.ndarray, names: tuple[str, ...], *, bins: int = 20, seed: int = 0) -> dict:
    """MIG, DCI and the FactorVAE score of codes [N, D] (posterior means) with integer factors [N, F], all 1 at best.

    `mig_by_factor` is the gap of each factor by its name. By chance MIG and DCI are about 0 and FactorVAE's is 1 / F. Factors
    and units that do not vary are left out. bins: of each unit, for MIG. 5,000 examples of 10 values take some ten seconds."""
    varying = (factors != factors[:1]).any(0)
    factors, names = factors[:, varying], [name for name, kept in zip(names, varying) if kept]
    codes = np.float64(codes)
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
    """How much more the best unit says of a factor than the second best, of what there is to say: [F].

    MIG_k = (max_j I(z_j; v_k) - second max_j I(z_j; v_k)) / H(v_k) (Chen et al. 2018, section 4.1, equation 6), estimated by
    the histogram of each unit in `bins` equally wide bins."""
    from sklearn.metrics import mutual_info_score

    binned = [np.digitize(unit, np.linspace(unit.min(), unit.max(), bins + 1)[1:-1]) for unit in codes.T]
    binned += [np.zeros(len(codes), int)] * (len(binned) == 1)  # a single unit has no rival
    information = np.array([[mutual_info_score(unit, factor) for unit in binned] for factor in factors.T])
    second, best = np.sort(information, 1)[:, -2:].T
    return (best - second) / np.array([mutual_info_score(factor, factor) for factor in factors.T])


def dci(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018, section 2) by random forests.

    R_jk is the importance of unit j for the forest that tells factor k. Disentanglement: 1 - entropy of row j in base F, the
    mean over units weighed by their importance; completeness: 1 - entropy of column k in base D, the mean over factors;
    informativeness: the mean of 1 - error / (error of always guessing the commonest value), on a fifth of the examples that
    the forests do not see (the paper gives the error itself)."""
    from sklearn.ensemble import RandomForestClassifier

    order = np.random.default_rng(seed).permutation(len(codes))
    train, test = order[len(codes) // 5 :], order[: len(codes) // 5]
    columns, informed = [], []
    for factor in factors.T:
        # every split may choose among all units: importance would leak to units that are only there for want of better ones
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


def _entropy(rows):
    """Entropy of each row [R, C] of importances in base C: 0 where one column has it all, 1 where all have the same."""
    share = rows / np.maximum(rows.sum(1, keepdims=True), 1e-12)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1)), 1) / np.log(max(rows.shape[1], 2))
    return np.where(rows.sum(1) > 0, entropy, 1)


def factor_vae(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> float:
    """The accuracy with which the unit that varies least in a group of examples tells the factor that they share.

    Codes are divided by their standard deviation; a majority vote maps units to factors (Kim & Mnih 2018, section 4). A group
    is of at most 64 examples that share a factor's value; half of 1,600 groups set the votes, the other half judges them."""
    rng = np.random.default_rng(seed)
    codes = codes / codes.std(0)
    chosen = rng.integers(factors.shape[1], size=2 * VOTES)
    least = np.array([_least_varying(codes, factors[:, factor], rng) for factor in chosen])
    votes = np.zeros((codes.shape[1], factors.shape[1]))
    np.add.at(votes, (least[:VOTES], chosen[:VOTES]), 1)
    return float((votes.argmax(1)[least[VOTES:]] == chosen[VOTES:]).mean())


def _least_varying(codes, factor, rng):
    """The unit of least variance among examples that share the value of a random example."""
    members = np.flatnonzero(factor == factor[rng.integers(len(factor))])
    return codes[rng.permutation(members)[:GROUP]].var(0).argmin()
