"""What every quantizer must do: one suite, run over all of them, built as a config builds them.

Where a method differs by design, the sets in `quantizer_cases` say so: balanced codes depend on the other items (`encode_new`
does not), random codes depend on the number of the row, hash codes say nothing about content. Fitting looks at the order of
rows (which rows are starts, which are a batch), except for hash codes; only how good the result is must not depend on it.
"""

import functools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quantizer_cases import (
    CASES,
    CONTENT_FREE,
    EXACT,
    PARALLEL,
    clustered,
    content_methods,
    every_method,
    lost,
    make,
    squared_error,
)

from tokenizer.errors import TokenizerError
from tokenizer.quantizers import Quantizer
from tokenizer.quantizers.spec import Method, QuantizerSpec, RQVAESpec, make_quantizer, restore_quantizer


@functools.cache
def fitted(case: str) -> tuple[Quantizer, np.ndarray, np.ndarray]:
    """Quantizer, rows and codes that several tests look at and none changes."""
    x = clustered()
    quantizer = make(case, [6, 8, 4]).fit(x)
    return quantizer, x, quantizer.encode(x)


def encode_each(case: str, quantizer: Quantizer, x: np.ndarray) -> np.ndarray:
    """Codes that look at one row at a time."""
    return quantizer.encode_new(x) if case == "balanced_rq_kmeans" else quantizer.encode(x)


def test_the_list_is_complete() -> None:
    assert {method for method, _ in CASES.values()} == set(get_args(Method))
    gradients = {options.get("gradient", "rotation") for method, options in CASES.values() if method == "rq_vae"}
    assert gradients == set(get_args(RQVAESpec.model_fields["gradient"].annotation))


def test_naming_a_method_costs_no_heavy_import() -> None:
    """Configs are read by commands that never tokenize."""
    program = "import sys, tokenizer.quantizers.spec; print(*{'torch', 'sklearn', 'scipy.sparse'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@st.composite
def any_vectors(draw: st.DrawFn) -> np.ndarray:
    """Few or many rows and columns, with duplicates, zeros, one far row and extreme scales now and then."""
    items, width = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(items, width))
    kind = draw(st.sampled_from(["plain", "duplicates", "zeros", "far row", "tiny", "huge", "one column"]))
    if kind == "duplicates":
        x = x[np.arange(items) % max(1, items // 4)]
    elif kind == "zeros":
        x[::2] = 0
    elif kind == "far row":
        x[0] = 1e6
    elif kind == "one column":
        x[:, 1:] = 0
    return np.asarray(x * {"tiny": 1e-12, "huge": 1e12}.get(kind, 1.0), dtype=np.float32)


@every_method
@settings(max_examples=10)
@given(x=any_vectors(), level_sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
@example(x=clustered(30), level_sizes=[1, 5, 1])
@example(x=clustered(30, width=2), level_sizes=[3, 3, 3])  # more levels than columns
def test_any_levels_and_vectors_give_codes_of_the_promised_form(
    case: str, x: np.ndarray, level_sizes: list[int]
) -> None:
    quantizer = make(case, level_sizes, steps=3, hidden=[4], batch_size=8).fit(x)
    codes, codebooks, latent = quantizer.encode(x), quantizer.codebooks, quantizer.latent(x)
    assert codes.shape == (len(x), len(level_sizes)) and codes.dtype == np.int32
    assert (codes >= 0).all() and (codes < level_sizes).all()
    assert [codebook.shape for codebook in codebooks] == [(size, latent.shape[1]) for size in level_sizes]
    assert all(codebook.dtype == np.float32 and np.isfinite(codebook).all() for codebook in codebooks)
    decoded = quantizer.decode(codes)
    for array in (decoded, latent):
        assert len(array) == len(x) and array.dtype == np.float32 and np.isfinite(array).all()
    assert decoded.shape == x.shape
    np.testing.assert_array_equal(quantizer.encode(x.astype(np.float64)), codes)
    restored = type(quantizer).load(quantizer.config(), quantizer.state_dict())
    np.testing.assert_array_equal(restored.encode(x), codes)
    np.testing.assert_array_equal(restored.decode(codes), decoded)
    assert quantizer.encode_new(x[:1]).shape == (1, len(level_sizes))


@content_methods
def test_decoding_beats_the_mean_and_random_codes(case: str) -> None:
    quantizer, x, codes = fitted(case)
    error = squared_error(x, quantizer.decode(codes))
    assert error < 0.5 * squared_error(x, x.mean(0))
    random_codes = np.random.default_rng(0).integers([6, 8, 4], size=codes.shape)
    assert error < 0.5 * squared_error(x, quantizer.decode(random_codes))


@pytest.mark.parametrize("case", sorted(CONTENT_FREE))
def test_codes_without_content_decode_to_the_mean(case: str) -> None:
    quantizer, x, codes = fitted(case)
    np.testing.assert_allclose(quantizer.decode(codes), np.tile(x.mean(0), (400, 1)), rtol=1e-5, atol=1e-6)


@every_method
def test_deterministic_by_seed_and_blind_to_the_global_random_state(case: str) -> None:
    import torch

    x = clustered(200)
    first = make(case, [8, 8], seed=3, steps=40).fit(x)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index,union-attr]
    second = make(case, [8, 8], seed=3, steps=40).fit(x)
    codes = second.encode(x)
    second.encode_new(x)
    type(second).load(second.config(), second.state_dict())
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
    assert before[2] == random.getstate()
    np.testing.assert_array_equal(first.encode(x), codes)
    for name, array in first.state_dict().items():
        np.testing.assert_array_equal(array, second.state_dict()[name], err_msg=name)
    assert not np.array_equal(codes, make(case, [8, 8], seed=4, steps=40).fit(x).encode(x))


@every_method
def test_fitting_again_forgets_what_was_fitted_before(case: str) -> None:
    x = clustered(100)
    once = make(case, [4, 4], steps=20).fit(x)
    twice = make(case, [4, 4], steps=20).fit(clustered(150, width=7, seed=1)).fit(x)
    np.testing.assert_array_equal(once.encode(x), twice.encode(x))


@every_method
def test_config_holds_every_setting_as_plain_json(case: str) -> None:
    method, options = CASES[case]
    settings_ = getattr(QuantizerSpec.model_validate({method: options}), method).model_dump()
    expected = {"level_sizes": [5, 7], "seed": 2, "memory_mib": 64, **settings_}
    assert json.loads(json.dumps(make(case, [5, 7], seed=2).config())) == expected


@every_method
def test_round_trip_through_the_disk(case: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    quantizer, x, codes = fitted(case)
    save_file({name: np.ascontiguousarray(a) for name, a in quantizer.state_dict().items()}, tmp_path / "state")
    config = {"method": CASES[case][0], "quantizer": json.loads(json.dumps(quantizer.config()))}
    restored = restore_quantizer(config, load_file(tmp_path / "state"))
    assert restored.config() == quantizer.config()
    np.testing.assert_array_equal(restored.encode(x), codes)
    np.testing.assert_array_equal(restored.encode_new(x), quantizer.encode_new(x))
    np.testing.assert_array_equal(restored.decode(codes), quantizer.decode(codes))
    np.testing.assert_array_equal(restored.latent(x), quantizer.latent(x))


@every_method
def test_a_damaged_state_is_refused_by_the_name_of_the_array(case: str) -> None:
    quantizer, _, _ = fitted(case)
    config = {"method": CASES[case][0], "quantizer": quantizer.config()}
    for name, array in quantizer.state_dict().items():
        state = quantizer.state_dict()
        del state[name]
        with pytest.raises(TokenizerError, match=rf"array '{name}'"):
            restore_quantizer(config, state)
        if name != "mean":  # the width of all others is compared with it
            with pytest.raises(TokenizerError, match=rf"array '{name}' should have shape"):
                restore_quantizer(config, {**state, name: np.concatenate([np.atleast_1d(array)] * 2)})
    with pytest.raises(TokenizerError, match="do not fit this version"):
        restore_quantizer({**config, "quantizer": {**quantizer.config(), "colour": 3}}, quantizer.state_dict())
    with pytest.raises(TokenizerError, match="no quantizer of a known method"):
        restore_quantizer({**config, "method": "colour"}, quantizer.state_dict())


@pytest.mark.parametrize("case", [case for case in CASES if case != "random"])
def test_codes_of_an_item_depend_neither_on_its_place_nor_on_its_company(case: str) -> None:
    quantizer, x, encoded = fitted(case)
    codes = encode_each(case, quantizer, x)
    if case != "balanced_rq_kmeans":  # items that join later are encoded like all others
        np.testing.assert_array_equal(quantizer.encode_new(x), encoded)
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_array_equal(encode_each(case, quantizer, x[order]), codes[order])
    np.testing.assert_array_equal(encode_each(case, quantizer, x[:37]), codes[:37])
    for row in range(5):
        np.testing.assert_array_equal(encode_each(case, quantizer, x[row : row + 1]), codes[row : row + 1])


def test_random_codes_are_those_of_the_row_number() -> None:
    quantizer, x, codes = fitted("random")
    np.testing.assert_array_equal(quantizer.encode(x[:37]), codes[:37])
    np.testing.assert_array_equal(quantizer.encode(x[::-1]), codes)


@content_methods
def test_the_order_of_rows_does_not_make_a_fit_good_or_bad(case: str) -> None:
    quantizer, x, codes = fitted(case)
    shuffled = x[np.random.default_rng(2).permutation(len(x))]
    again = make(case, [6, 8, 4]).fit(shuffled)
    errors = [squared_error(x, q.decode(c)) for q, c in ((quantizer, codes), (again, encode_each(case, again, x)))]
    # one of two local optima: three-level errors of this size spread by about a third between seeds
    assert max(errors) < 2 * min(errors) + 0.02 * squared_error(x, x.mean(0))


def test_a_hash_depends_on_nothing_but_row_and_seed() -> None:
    _, x, codes = fitted("hash")
    np.testing.assert_array_equal(make("hash", [6, 8, 4]).fit(x[::-1] + 1).encode(x), codes)


@pytest.mark.parametrize("case", [case for case in CASES if case != "random"])
def test_duplicate_rows_share_their_codes_and_constant_columns_do_no_harm(case: str) -> None:
    x = np.repeat(clustered(60), 3, axis=0)
    x[:, 4] = 7.0
    quantizer = make(case, [8, 8], steps=60).fit(x)
    codes = encode_each(case, quantizer, x).reshape(60, 3, 2)
    assert (codes == codes[:, :1]).all()
    decoded = quantizer.decode(quantizer.encode(x))
    assert np.isfinite(decoded).all()
    if case in EXACT:  # a decoder network only comes close
        np.testing.assert_allclose(decoded[:, 4], 7.0, atol=1e-4)


@every_method
@pytest.mark.parametrize("items", [1, 5])
def test_fewer_items_than_codes(case: str, items: int) -> None:
    x = clustered(items)
    quantizer = make(case, [16, 16], steps=30).fit(x)
    codes = quantizer.encode(x)
    assert codes.shape == (items, 2) and (codes >= 0).all() and (codes < 16).all()
    assert len(np.unique(codes, axis=0)) == items  # different items, room enough: no reason to collide
    assert np.isfinite(quantizer.decode(codes)).all()
    assert np.isfinite(quantizer.encode_new(clustered(30, seed=1))).all()
    if case in EXACT:
        np.testing.assert_allclose(quantizer.decode(codes), x, rtol=1e-4, atol=1e-4)


@every_method
def test_identical_items(case: str) -> None:
    x = np.full((10, 3), 2.5)
    quantizer = make(case, [4, 4], steps=20).fit(x)
    codes = quantizer.encode(x)
    assert np.isfinite(quantizer.decode(codes)).all()
    assert all(np.isfinite(codebook).all() for codebook in quantizer.codebooks)
    if case == "random":
        assert len(np.unique(codes, axis=0)) == 10
    else:
        assert len(np.unique(encode_each(case, quantizer, x), axis=0)) == 1
    if case in EXACT | CONTENT_FREE:
        np.testing.assert_allclose(quantizer.decode(codes), x, rtol=1e-5)


@every_method
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused_with_their_row(case: str, value: float) -> None:
    quantizer = fitted(case)[0]
    x = clustered(30).astype(np.float64)
    x[17, 2] = value
    with pytest.raises(TokenizerError, match=r"row 17 holds NaN or infinity \(1 such rows of 30\)"):
        make(case, [4]).fit(x)
    for verb in (quantizer.encode, quantizer.encode_new, quantizer.latent):
        with pytest.raises(TokenizerError, match="row 17"):
            verb(x)


@every_method
def test_wrong_shapes_wrong_codes_and_unfitted_use_are_refused(case: str) -> None:
    blank = make(case, [4, 4])
    for use in (blank.encode, blank.encode_new, blank.latent):
        with pytest.raises(TokenizerError, match="not been fitted"):
            use(clustered(5))
    with pytest.raises(TokenizerError, match="not been fitted"):
        blank.decode(np.zeros((1, 2), dtype=np.int32))
    with pytest.raises(TokenizerError, match="not been fitted"):
        _ = blank.codebooks
    quantizer = fitted(case)[0]
    for use in (quantizer.encode, quantizer.encode_new, quantizer.latent):
        with pytest.raises(TokenizerError, match="3 columns, but the quantizer was fitted on 12"):
            use(np.zeros((2, 3)))
    with pytest.raises(TokenizerError, match="row 1 has code 4 on level 3"):
        quantizer.decode(np.array([[0, 0, 0], [0, 7, 4]]))
    with pytest.raises(TokenizerError, match=r"shape \[items, 3\]"):
        quantizer.decode(np.array([[0, 0]]))
    for wrong in (np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.zeros((2, 3, 4))):
        with pytest.raises(TokenizerError, match="shape"):
            make(case, [4]).fit(wrong)
    with pytest.raises(TokenizerError, match="real numbers"):
        make(case, [4]).fit(np.array([["a", "b"]]))
    for sizes in ([], [4, 0], [-1]):
        with pytest.raises(TokenizerError, match="level_sizes"):
            make(case, sizes)


@content_methods
def test_each_code_is_the_nearest_to_what_is_left_and_together_they_add_up(case: str) -> None:
    """`tokenizer.unique` relies on it. For parallel codes it holds too: columns of other blocks are zero in every row."""
    quantizer, x, codes = fitted(case)
    latent = quantizer.latent(x).astype(np.float64)
    residual = latent.copy()
    for level, codebook in enumerate(quantizer.codebooks):
        distance = np.square(residual[:, None] - codebook[None]).sum(-1)
        chosen = np.take_along_axis(distance, codes[:, level : level + 1], 1)[:, 0]
        if case != "balanced_rq_kmeans":  # there the nearest may be full
            np.testing.assert_allclose(chosen, distance.min(1), rtol=1e-3, atol=1e-4)
        residual -= codebook[codes[:, level]]
    assert np.square(residual).sum() < 0.5 * np.square(latent - latent.mean(0)).sum()


@pytest.mark.parametrize("case", sorted(PARALLEL))
def test_parallel_codebooks_do_not_overlap(case: str) -> None:
    used = np.stack([codebook.any(0) for codebook in fitted(case)[0].codebooks])
    np.testing.assert_array_equal(used.sum(0), 1)


@pytest.mark.parametrize("case", [case for case in CASES if case not in CONTENT_FREE | PARALLEL])
def test_levels_refine_each_other(case: str) -> None:
    """Prefixes mean something: the mean of the items that share one says more about them the longer it is."""
    _, x, codes = fitted(case)
    within = [1.0]
    for levels in (1, 2, 3):
        _, group = np.unique(codes[:, :levels], axis=0, return_inverse=True)
        means = np.stack([x[group == number].mean(0) for number in range(group.max() + 1)])
        within.append(squared_error(x, means[group]) / squared_error(x, x.mean(0)))
    assert within[1] < 0.6 and within[0] > within[1] > within[2] > within[3]


@pytest.mark.parametrize("case", sorted(EXACT))
def test_neither_a_far_origin_nor_the_scale_matter(case: str) -> None:
    """Squared lengths of 1e4 per column would swallow the distances in float32, were the mean not taken off first."""
    quantizer, x, codes = fitted(case)
    far = make(case, [6, 8, 4]).fit(x + 1e4)
    error = squared_error(x, quantizer.decode(codes))
    assert squared_error(x + 1e4, far.decode(far.encode(x + 1e4))) == pytest.approx(error, rel=0.3)
    np.testing.assert_array_equal(make(case, [6, 8, 4]).fit(x * 1024).encode(x * 1024), codes)


@pytest.mark.parametrize("case", sorted(EXACT))
def test_fitted_on_a_sample_all_rows_are_encoded(case: str) -> None:
    x, (method, options) = clustered(2000), CASES[case]
    spec = QuantizerSpec.model_validate({"method": method, method: {**options, "fit_rows": 300}})
    sampled, whole = make_quantizer(spec, [8, 8]).fit(x), make(case, [8, 8]).fit(x)
    assert sampled.encode(x).shape == (2000, 2)
    assert lost(sampled, x) < 2 * lost(whole, x)  # either may land in the better local optimum
