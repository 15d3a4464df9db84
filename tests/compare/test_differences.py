"""The difference of two networks: closed forms, a slow reference, and how often it claims what is not there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, t

from custom_networks.compare.differences import difference, interval_of_mean


def slow_interval(block, level=0.95):
    """Mean squares as sums over single values."""
    seeds, patients = block.shape
    mean = sum(block[s, c] for s in range(seeds) for c in range(patients)) / (seeds * patients)
    of_seed = [sum(block[s, c] for c in range(patients)) / patients for s in range(seeds)]
    of_patient = [sum(block[s, c] for s in range(seeds)) / seeds for c in range(patients)]
    m_s = patients * sum((x - mean) ** 2 for x in of_seed) / (seeds - 1)
    m_c = seeds * sum((x - mean) ** 2 for x in of_patient) / (patients - 1)
    free = (seeds - 1) * (patients - 1)
    cells = [(s, c) for s in range(seeds) for c in range(patients)]
    m_e = sum((block[s, c] - of_seed[s] - of_patient[c] + mean) ** 2 for s, c in cells) / free
    var_s, var_c = max(0, (m_s - m_e) / patients), max(0, (m_c - m_e) / seeds)
    variance = var_s / seeds + var_c / patients + m_e / (seeds * patients)
    # the rest is in the mean square of what is there alone, and stands for itself where neither or both are there
    terms = [(m_s, seeds - 1)] * bool(var_s > 0) + [(m_c, patients - 1)] * bool(var_c > 0)
    terms += [(m_e, free)] * (len(terms) != 1)
    degrees = (variance * seeds * patients) ** 2 / sum(square**2 / own for square, own in terms)
    half = math.sqrt(variance) * t.ppf((1 + level) / 2, degrees)
    return mean - half, mean + half


@pytest.mark.parametrize("shape", [(2, 5), (3, 20), (5, 8)])
@pytest.mark.parametrize("spread", [(0, 1, 1), (1, 0.1, 0.1), (0.5, 1, 0.2), (0, 0, 1)], ids=str)
def test_equals_the_slow_reference(shape, spread):
    draws = np.random.default_rng(1)
    seeds, patients, rest = spread
    block = 0.3 + seeds * draws.normal(size=(shape[0], 1)) + patients * draws.normal(size=(1, shape[1]))
    block = block + rest * draws.normal(size=shape)
    block = block / 100
    np.testing.assert_allclose(interval_of_mean([block]), slow_interval(block), rtol=1e-9)


def test_patients_alone_give_the_interval_of_student():
    """Where all seeds agree, it is that of the patients' mean."""
    values = np.random.default_rng(2).normal(0.1, 0.05, 12)
    own = interval_of_mean([np.stack([values, values, values])])
    expected = t.interval(0.95, 11, values.mean(), values.std(ddof=1) / math.sqrt(12))
    np.testing.assert_allclose(own, expected, rtol=1e-9)


def test_seeds_alone_give_the_interval_of_student():
    values = np.array([0.1, 0.2, 0.15, 0.3])
    own = interval_of_mean([np.repeat(values[:, None], 6, 1)])
    expected = t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    np.testing.assert_allclose(own, expected, rtol=1e-9)


def test_equal_networks_have_the_interval_of_their_difference():
    assert interval_of_mean([np.zeros((2, 4))]) == (0, 0)


def test_two_folds_are_weighted_by_their_patients():
    draws = np.random.default_rng(3)
    blocks = [draws.normal(0, 0.01, (2, 6)), draws.normal(0.01, 0.01, (2, 18))]
    low, high = interval_of_mean(blocks)
    assert (low + high) / 2 == pytest.approx((6 * blocks[0].mean() + 18 * blocks[1].mean()) / 24)
    # as wide as one of all patients where there are no seeds to speak of
    apart = [np.tile(draws.normal(0, 0.1, (1, 20)), (3, 1)) for _ in range(2)]
    low, high = interval_of_mean(apart)
    variance = sum(block[0].var(ddof=1) / 20 / 4 for block in apart)
    squares = [block[0].var(ddof=1) / 20 / 4 for block in apart]
    degrees = variance**2 / sum(square**2 / 19 for square in squares)
    assert (high - low) / 2 == pytest.approx(math.sqrt(variance) * t.ppf(0.975, degrees))


def test_an_interval_ends_where_differences_do():
    assert interval_of_mean([np.array([[0.9, 0.9, 0.8], [-0.9, -0.9, -0.8]])]) == (-1, 1)


@pytest.mark.parametrize("blocks", [[np.zeros((1, 9))], [np.zeros((3, 1))], [np.zeros((2, 5)), np.zeros((2, 1))]])
def test_one_training_or_one_patient_says_nothing_of_others(blocks):
    assert interval_of_mean(blocks) is None


# spread of seeds, of patients and of the rest, as a share of each other
SPREADS = [(0.0, 1.0, 1.0), (0.3, 1.0, 1.0), (1.0, 1.0, 0.5)]


@pytest.mark.parametrize("spread", SPREADS, ids=str)
@pytest.mark.parametrize(("seeds", "most"), [(2, 0.10), (3, 0.07), (5, 0.06)])
def test_a_network_beside_itself_is_rarely_called_different(seeds, most, spread):
    """Scores of one network, trained anew with other seeds: at most as often as docs/decisions/comparison.md says."""
    draws, repetitions, patients = np.random.default_rng(seeds), 800, 20
    wrong = 0
    for _ in range(repetitions):
        hard = spread[1] * draws.normal(size=patients)

        def scores(hard=hard):
            runs = hard + spread[0] * draws.normal(size=(seeds, 1)) + spread[2] * draws.normal(size=(seeds, patients))
            return {(0, seed): {str(n): run[n] / 100 for n in range(patients)} for seed, run in enumerate(runs)}

        wrong += difference(scores(), scores()).shown
    assert wrong <= binom.ppf(0.999, repetitions, most)


def test_a_network_that_is_better_is_called_so():
    draws = np.random.default_rng(5)
    hard = draws.normal(0.8, 0.05, 20)

    def scores(better):
        runs = hard + better + draws.normal(0, 0.005, (3, 20))
        return {(0, seed): {f"p{n}": run[n] for n in range(20)} for seed, run in enumerate(runs)}

    found = difference(scores(0), scores(0.02))
    assert found.shown
    assert found.interval[0] < 0.02 < found.interval[1]
    assert (found.patients, found.seeds) == (20, 3)
    assert found.wins > 15
    assert found.wins + found.losses == 20


def test_patients_without_a_score_are_left_out_of_both():
    first = {(0, seed): {"a": 0.5, "b": math.nan, "c": 0.7} for seed in range(2)}
    second = {(0, seed): {"a": 0.6, "b": 0.9, "c": 0.6} for seed in range(2)}
    found = difference(first, second)
    assert found.mean == pytest.approx(0)
    assert (found.wins, found.losses, found.patients) == (1, 1, 2)


def test_what_cannot_be_compared_is_refused():
    scores = {(0, 0): {"a": 0.5}, (0, 1): {"a": 0.5}}
    with pytest.raises(ValueError, match="other folds and seeds"):
        difference(scores, {(0, 0): {"a": 0.5}})
    with pytest.raises(ValueError, match="other patients"):
        difference(scores, {(0, 0): {"b": 0.5}, (0, 1): {"b": 0.5}})
    with pytest.raises(ValueError, match="no patient of fold 0"):
        difference(scores, {(0, 0): {"a": math.nan}, (0, 1): {"a": 0.5}})
