import time

import numpy as np
import pytest

from onerec.evaluate import bootstrap


def width(figure: dict[str, float]) -> float:
    return figure["high"] - figure["low"]


def over_seeds(values_SC: np.ndarray, users: np.ndarray) -> dict[str, float]:
    return bootstrap.intervals_over_seeds({"figure": values_SC}, users, 500, 3)["figure"]


def test_value_is_the_mean_over_cases_not_over_users() -> None:
    figure = bootstrap.interval([1.0, 1.0, 1.0, 0.0], np.array([7, 7, 7, 9]), samples=50, seed=1)
    assert figure["value"] == pytest.approx(0.75)
    assert figure["low"] <= 0.75 <= figure["high"]


def test_equals_a_plain_resampling_of_users() -> None:
    generator = np.random.default_rng(3)
    user = np.array([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5])
    values = generator.random(len(user))
    means = []
    for _ in range(20_000):
        cases = np.concatenate([values[user == drawn] for drawn in generator.integers(6, size=6)])
        means.append(cases.mean())
    figure = bootstrap.interval(values, user, samples=20_000, seed=4)
    # 20,000 resamples place a 2.5 % percentile of this spread (0.07) to about 0.0013; 5 sigma.
    assert figure["low"] == pytest.approx(np.percentile(means, 2.5), abs=0.007)
    assert figure["high"] == pytest.approx(np.percentile(means, 97.5), abs=0.007)


def test_covers_the_true_mean_in_95_of_100_experiments() -> None:
    generator = np.random.default_rng(0)
    users, experiments = 150, 400
    covered = 0
    for seed in range(experiments):
        values = generator.random(users) < 0.3
        figure = bootstrap.interval(values, np.arange(users), samples=300, seed=seed)
        covered += figure["low"] <= 0.3 <= figure["high"]
    # Binomial noise of 400 experiments is 1.1 points; percentile intervals run a point or two short.
    assert 0.91 <= covered / experiments <= 0.98


def test_copies_of_a_users_cases_add_no_certainty() -> None:
    values = np.random.default_rng(1).random(300)
    once = bootstrap.interval(values, np.arange(300), samples=500, seed=2)
    nine_times = bootstrap.interval(np.repeat(values, 9), np.repeat(np.arange(300), 9), samples=500, seed=2)
    assert nine_times == pytest.approx(once)
    taken_as_independent = bootstrap.interval(np.repeat(values, 9), np.arange(2700), samples=500, seed=2)
    assert width(taken_as_independent) < width(once) / 2  # a third is expected


def test_order_of_cases_and_names_of_users_do_not_matter() -> None:
    generator = np.random.default_rng(8)
    user, values = generator.integers(40, size=200), generator.random(200)
    shuffled = generator.permutation(200)
    expected = bootstrap.interval(values, user, samples=200, seed=3)
    again = bootstrap.interval(values[shuffled], user[shuffled] * 1000 + 17, samples=200, seed=3)
    assert again == pytest.approx(expected)


def test_figures_measured_together_equal_figures_measured_alone() -> None:
    generator = np.random.default_rng(9)
    user = generator.integers(50, size=300)
    values = {name: generator.random(300) for name in "abc"}
    together = bootstrap.intervals(values, user, samples=100, seed=5)
    for name in values:
        assert together[name] == pytest.approx(bootstrap.interval(values[name], user, samples=100, seed=5))


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values, user = np.random.default_rng(2).random(60), np.arange(60)
    whole = bootstrap.interval(values, user, samples=97, seed=1)
    monkeypatch.setattr(bootstrap, "_CELLS_PER_CHUNK", 600)
    assert bootstrap.interval(values, user, samples=97, seed=1) == pytest.approx(whole)


def test_paired_interval_is_tighter_when_models_agree_on_who_is_hard() -> None:
    generator = np.random.default_rng(11)
    user = np.arange(2000)
    difficulty = generator.random(2000)
    first = difficulty + 0.02 + generator.normal(scale=0.05, size=2000)
    second = difficulty + generator.normal(scale=0.05, size=2000)
    paired = bootstrap.paired_intervals({"a": first}, {"a": second}, user, samples=500, seed=1)["a"]
    alone = [bootstrap.interval(values, user, samples=500, seed=1) for values in (first, second)]
    unpaired_width = np.hypot(width(alone[0]), width(alone[1]))
    assert width(paired) < unpaired_width / 3
    assert paired["low"] > 0
    assert paired["value"] == pytest.approx(first.mean() - second.mean())


def test_a_model_does_not_differ_from_itself() -> None:
    values = {"recall@10": np.random.default_rng(0).random(30), "only here": np.ones(30)}
    difference = bootstrap.paired_intervals(values, {"recall@10": values["recall@10"]}, np.arange(30), samples=20)
    assert difference == {"recall@10": {"value": 0.0, "low": 0.0, "high": 0.0}}


def test_input_that_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no cases"):
        bootstrap.interval([], np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match="finite"):
        bootstrap.interval([1.0, np.nan], np.arange(2))
    with pytest.raises(ValueError, match="pairs need the same cases"):
        bootstrap.paired_intervals({"a": [1.0, 0.0]}, {"a": [1.0]}, np.arange(2))
    with pytest.raises(ValueError, match="samples"):
        bootstrap.interval([1.0], np.arange(1), samples=0)


def test_thirty_figures_of_twenty_thousand_users_take_seconds() -> None:
    generator = np.random.default_rng(0)
    values = {str(n): generator.random(22_000) for n in range(30)}
    started = time.process_time()
    bootstrap.intervals(values, np.arange(22_000), samples=1000)
    assert time.process_time() - started < 15  # about 1 s measured; the slack is for busy machines


def test_interval_over_seeds_holds_both_users_and_seeds() -> None:
    """Seeds that disagree widen it; with one seed it is the plain interval of that seed."""
    users = np.arange(500)
    values = (np.random.default_rng(0).random(500) < 0.3).astype(float)
    plain = bootstrap.interval(values, users, 500, 3)
    for rows in (values[None], np.stack([values] * 3)):
        assert over_seeds(rows, users) == pytest.approx(plain)
    apart = over_seeds(np.stack([values, values + 1, values - 1]), users)
    assert apart["value"] == pytest.approx(plain["value"])
    assert width(apart) > 5 * width(plain)
    with pytest.raises(ValueError, match="per seed"):
        over_seeds(values, users)


def test_figures_over_seeds_share_users_and_seeds() -> None:
    """Many at once are what each would be alone, so a difference of two is as narrow as its pairs make it."""
    draw, users = np.random.default_rng(1), np.repeat(np.arange(80), 2)
    first = draw.random((3, 160))
    figures = {"first": first, "second": first + 0.5, "third": draw.random((3, 160))}
    together = bootstrap.intervals_over_seeds(figures, users, 500, 3)
    for name, values in figures.items():
        assert together[name] == pytest.approx(over_seeds(values, users))
    assert together["second"]["low"] == pytest.approx(together["first"]["low"] + 0.5)
    assert bootstrap.intervals_over_seeds({}, users) == {}
    with pytest.raises(ValueError, match="as many rows"):
        bootstrap.intervals_over_seeds({"one": first, "two": first[:2]}, users)
