"""Facility location: greedy to the letter, on every backend, within its memory, and equal to other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import smartaug
from smartaug._base import compiled
from tests import reference_coreset as reference

BACKENDS = ("numba", "torch")
SIMILARITIES = ("distance", "exp")


def residuals(size, classes=5, seed=0):
    """p − y of one class, as a half-trained network gives them: many near 0, some far out."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, classes, generator=generator)
    logits[:, 0] += 4 * torch.rand(size, generator=generator)
    rows = logits.softmax(1)
    rows[:, 0] -= 1
    return smartaug.Embedding(rows)


def with_features(embedding, width=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return embedding._replace(feature=torch.randn(len(embedding.residual), width, generator=generator))


def check_contract(indices, weights, size, budget):
    assert indices.dtype == torch.int64
    assert len(set(indices.tolist())) == budget == len(indices)
    assert indices.min() >= 0
    assert indices.max() < size
    assert weights.dtype == torch.float32
    assert weights.mean().item() == pytest.approx(1, abs=1e-5)
    assert weights.min() > 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("size", [1, 2, 3, 17, 90, 530])
def test_the_picks_are_those_of_brute_force(size, similarity, backend):
    embedding = residuals(size, seed=size)
    costs = reference.distances(embedding, similarity)
    select = smartaug.FacilityLocation(similarity, backend=backend)
    budget = min(math.ceil(size / 3), 80)
    indices, weights = select(embedding, budget)
    assert indices.tolist() == reference.greedy(embedding, budget, similarity)
    check_contract(indices, weights, size, budget)
    sizes = reference.cluster_sizes(costs, indices.tolist())
    assert torch.allclose(weights, sizes * budget / size)
    assert select.cost(embedding, indices) == pytest.approx(float(costs[:, indices].amin(1).sum()), rel=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("size", [1, 2, 40, 300])
def test_the_picks_with_features_are_those_of_brute_force(size, similarity):
    embedding = with_features(residuals(size, seed=size))
    costs = reference.distances(embedding, similarity)
    budget = math.ceil(size / 4)
    indices, weights = smartaug.FacilityLocation(similarity)(embedding, budget)
    assert indices.tolist() == reference.greedy(embedding, budget, similarity)
    assert torch.allclose(weights, reference.cluster_sizes(costs, indices.tolist()) * budget / size)
    assert indices.tolist() != smartaug.FacilityLocation(similarity)(residuals(size, seed=size), budget)[
        0
    ].tolist() or (size < 3)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(-4, 4), min_size=1, max_size=14), data=st.data())
def test_ties_go_to_the_smaller_point_and_duplicates_to_the_lower_index(backend, places, data):
    budget = data.draw(st.integers(0, len(places)))
    embedding = smartaug.Embedding(torch.tensor(places, dtype=torch.float32)[:, None])
    indices, weights = smartaug.FacilityLocation(backend=backend)(embedding, budget)
    costs = reference.distances(embedding)  # integers, so that sums and ties are exact
    assert indices.tolist() == reference.greedy(embedding, budget)
    if budget:
        check_contract(indices, weights, len(places), budget)
        assert torch.allclose(weights, reference.cluster_sizes(costs, indices.tolist()) * budget / len(places))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 70), classes=st.integers(1, 11), data=st.data())
def test_every_pick_has_the_largest_gain(backend, seed, size, classes, data):
    budget = data.draw(st.integers(1, size))
    embedding = residuals(size, classes, seed)
    costs = reference.distances(embedding)
    indices, weights = smartaug.FacilityLocation(backend=backend)(embedding, budget)
    check_contract(indices, weights, size, budget)
    picks = indices.tolist()
    for made, pick in enumerate(picks):
        gain = reference.gains(costs, picks[:made])
        assert gain[pick] >= gain.max() - 1e-5 * costs.max()


@pytest.mark.parametrize("seed", range(6))
def test_greedy_keeps_its_guarantee(seed):
    embedding = residuals(11, seed=seed)
    costs = reference.distances(embedding)
    for budget in (1, 3, 5):
        indices, _ = smartaug.FacilityLocation()(embedding, budget)
        optimum = reference.best_objective(costs, budget)
        assert (1 - 1 / math.e) * optimum <= reference.objective(costs, indices.tolist()) <= optimum + 1e-9


@pytest.mark.parametrize("method", ["exact", "stochastic"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_planted_clusters_are_covered_and_counted(backend, method):
    sizes = torch.tensor([40, 7, 25, 3, 90])
    centres = 10 * torch.eye(5)
    member = torch.repeat_interleave(torch.arange(5), sizes)[torch.randperm(165)]
    embedding = smartaug.Embedding(centres[member] + 0.01 * torch.randn(165, 5))
    indices, weights = smartaug.FacilityLocation(method=method, epsilon=1e-9, backend=backend)(embedding, 5)
    assert sorted(member[indices].tolist()) == [0, 1, 2, 3, 4]
    assert torch.allclose(weights, sizes[member[indices]] * 5 / 165)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_permuting_the_data_permutes_the_picks(similarity, backend):
    embedding, order = residuals(800), torch.randperm(800)
    permuted = smartaug.Embedding(embedding.residual[order])
    select = smartaug.FacilityLocation(similarity, backend=backend)
    indices, weights = select(embedding, 200)
    moved, moved_weights = select(permuted, 200)
    assert order[moved].tolist() == indices.tolist()
    assert torch.equal(weights, moved_weights)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_picks_are_those_of_a_smaller_budget(backend):
    embedding, select = residuals(300), smartaug.FacilityLocation(backend=backend)
    assert select(embedding, 100)[0][:30].tolist() == select(embedding, 30)[0].tolist()


def test_backends_and_threads_agree():
    embedding = residuals(2500, classes=10)
    alone = smartaug.FacilityLocation()(embedding, 250)
    for other, threads in ((smartaug.FacilityLocation(), 2), (smartaug.FacilityLocation(backend="torch"), 1)):
        torch.set_num_threads(threads)
        indices, weights = other(embedding, 250)
        assert indices.tolist() == alone[0].tolist()
        assert torch.equal(weights, alone[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["exact", "stochastic"])
def test_duplicates_are_picked_last_and_once(method, backend):
    rows = residuals(30).residual
    embedding = smartaug.Embedding(torch.cat([rows, rows, rows[:5]]))
    indices, weights = smartaug.FacilityLocation(method=method, epsilon=1e-9, backend=backend)(embedding, 65)
    check_contract(indices, weights, 65, 65)
    assert weights.tolist() == [1.0] * 65
    if method == "exact":
        assert sorted(indices[:30].tolist()) == list(range(30))
        assert indices[30:].tolist() == sorted(indices[30:].tolist(), key=lambda i: (rows[i % 30].tolist(), i))


@pytest.mark.parametrize("features", [False, True])
def test_equal_samples_are_told_from_each_other_by_nothing(features):
    embedding = smartaug.Embedding(torch.full((9, 4), 0.3), torch.full((9, 6), 7.3) if features else None)
    indices, weights = smartaug.FacilityLocation()(embedding, 3)
    assert indices.tolist() == [0, 1, 2]
    assert weights.tolist() == pytest.approx([7 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tiny", [2.0**-100, 2.0**-126])
def test_tiny_gradients_are_gradients(tiny, backend):
    embedding, select = residuals(60), smartaug.FacilityLocation(backend=backend)
    indices, weights = select(embedding, 20)
    small, small_weights = select(smartaug.Embedding(embedding.residual.double() * tiny), 20)
    assert small.tolist() == indices.tolist()
    assert torch.equal(small_weights, weights)
    scaled = smartaug.Embedding(embedding.residual.double() * 1e-30)
    assert select.cost(scaled, indices) == pytest.approx(1e-30 * select.cost(embedding, indices), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_are_read_and_nothing_is_written(dtype):
    embedding = smartaug.Embedding(residuals(50).residual.to(dtype).requires_grad_())
    before = embedding.residual.clone()
    indices, weights = smartaug.FacilityLocation()(embedding, 10)
    assert indices.tolist() == smartaug.FacilityLocation()(smartaug.Embedding(before.float()), 10)[0].tolist()
    assert torch.equal(embedding.residual, before)
    assert not weights.requires_grad


def test_numpys_integers_are_budgets():
    embedding = residuals(20)
    assert torch.equal(
        smartaug.FacilityLocation()(embedding, np.int64(4))[0], smartaug.FacilityLocation()(embedding, 4)[0]
    )


@pytest.mark.parametrize("method", ["exact", "stochastic"])
@pytest.mark.parametrize("size", [0, 1, 8])
def test_budgets_of_nothing_and_of_everything(size, method):
    embedding, select = residuals(size), smartaug.FacilityLocation(method=method)
    indices, weights = select(embedding, 0)
    assert (indices.shape, indices.dtype, weights) == ((0,), torch.int64, None)
    if size:
        indices, weights = select(embedding, size)
        check_contract(indices, weights, size, size)
        assert weights.tolist() == [1.0] * size


# --- sampling and parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_stochastic_greedy_is_nearly_greedy(backend):
    embedding = residuals(1500)
    exact, sampled = smartaug.FacilityLocation(), smartaug.FacilityLocation(method="stochastic", backend=backend)
    best = exact.cost(embedding, exact(embedding, 150)[0])
    state = torch.get_rng_state()
    drawn = [sampled(embedding, 150, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    for indices, weights in drawn:
        check_contract(indices, weights, 1500, 150)
        assert best <= exact.cost(embedding, indices) <= 1.1 * best
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])
    assert torch.equal(sampled(embedding, 150)[0], sampled(embedding, 150)[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_backends_sample_alike():
    embedding = residuals(700)
    drawn = [
        smartaug.FacilityLocation(method="stochastic", backend=backend)(embedding, 70, torch.Generator().manual_seed(3))
        for backend in BACKENDS
    ]
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])


@pytest.mark.parametrize("method", ["exact", "stochastic"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("budget", [1, 3, 100, 500, 900, 1200])
def test_parts_have_the_exact_budget_and_little_more_cost(budget, backend, method):
    embedding, whole = residuals(1200, seed=4), smartaug.FacilityLocation()
    parted = smartaug.FacilityLocation(method=method, memory=1 << 20, backend=backend)  # some 250 samples a part
    indices, weights = parted(embedding, budget)
    check_contract(indices, weights, 1200, budget)
    best = whole.cost(embedding, whole(embedding, budget)[0])
    assert best <= whole.cost(embedding, indices) + 1e-4
    costs = reference.distances(embedding)
    objectives = [reference.objective(costs, rows.tolist()) for rows in (indices, whole(embedding, budget)[0])]
    assert objectives[0] >= 0.97 * objectives[1]
    sizes = reference.cluster_sizes(costs, indices.tolist())
    assert torch.allclose(weights, sizes * budget / 1200, atol=2 * budget / 1200)  # near ties in float32


def test_the_second_round_counts_whom_the_winners_stand_for():
    """Three clusters, one ten times as large: without counts a second round would treat their winners alike."""
    sizes = torch.tensor([1000, 100, 100])
    member = torch.repeat_interleave(torch.arange(3), sizes)
    embedding = smartaug.Embedding(torch.eye(3)[member] * 5 + torch.rand(1200, 3))
    select = smartaug.FacilityLocation(memory=1 << 20)
    indices, _ = select(embedding, 60)
    counts = torch.bincount(member[indices], minlength=3)
    exact = torch.bincount(member[smartaug.FacilityLocation()(embedding, 60)[0]], minlength=3)
    assert counts.tolist() == pytest.approx(exact.tolist(), abs=6)


@pytest.mark.parametrize("method", ["exact", "stochastic"])
def test_parts_that_run_at_once_are_those_that_run_in_turn(method):
    embedding, select = residuals(1300), smartaug.FacilityLocation(method=method, memory=1 << 20)
    alone = select(embedding, 130)
    torch.set_num_threads(2)
    assert all(torch.equal(one, other) for one, other in zip(select(embedding, 130), alone, strict=True))


def test_partition_is_random_by_the_generator():
    embedding, select = residuals(900), smartaug.FacilityLocation(memory=1 << 20)
    drawn = [select(embedding, 90, torch.Generator().manual_seed(seed))[0].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


# --- other libraries -------------------------------------------------------------------------------------------------


def test_the_objective_is_submodlibs_and_apricots():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    scipy_sparse.csr = scipy_sparse  # where submodlib-py 0.0.3 looks for csr_matrix
    submodlib = pytest.importorskip("submodlib")
    apricot = pytest.importorskip("apricot")
    embedding = residuals(2000, classes=10)
    costs = reference.distances(embedding).numpy()
    similarity = costs.max() - costs
    theirs = submodlib.FacilityLocationFunction(
        n=2000, mode="dense", sijs=similarity.astype("float32"), separate_rep=False
    ).maximize(budget=200, optimizer="LazyGreedy", show_progress=False)
    others = apricot.FacilityLocationSelection(200, metric="precomputed", optimizer="lazy").fit(similarity)
    ours, _ = smartaug.FacilityLocation()(embedding, 200)
    values = [
        reference.objective(torch.from_numpy(costs), list(picks))
        for picks in (ours.tolist(), [pick for pick, _ in theirs], others.ranking)
    ]
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    assert values[2] == pytest.approx(values[0], rel=1e-6)


# --- errors ----------------------------------------------------------------------------------------------------------


def broken(value, rows, part="residual"):
    embedding = with_features(residuals(12))._replace(loss=torch.ones(12))
    tensor = getattr(embedding, part).clone()
    tensor[rows] = value
    return embedding._replace(**{part: tensor})


@pytest.mark.parametrize("part", ["residual", "feature", "loss"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_are_named(part, value):
    with pytest.raises(ValueError, match=rf"{part} is not finite in the rows \[3, 7\]; leave those samples out"):
        smartaug.FacilityLocation()(broken(value, [3, 7], part), 2)
    with pytest.raises(ValueError, match=rf"{part} is not finite in the rows \[0, 1, 2, 3, 4\] and 7 more"):
        smartaug.FacilityLocation()(broken(value, slice(None), part), 2)


@pytest.mark.parametrize(
    ("embedding", "budget", "error", "match"),
    [
        (residuals(4), 5, ValueError, r"budget must lie in 0..4, the number of samples, got 5"),
        (residuals(4), -1, ValueError, "budget must lie in 0..4"),
        (residuals(4), 2.0, TypeError, r"budget must be a number of samples, got 2.0"),
        (residuals(4), True, TypeError, "budget must be a number of samples"),
        (
            smartaug.Embedding(torch.ones(4, dtype=torch.int64)),
            1,
            TypeError,
            r"residual must be a float tensor \(n, K\)",
        ),
        (smartaug.Embedding([[1.0]]), 1, TypeError, "got list"),
        (smartaug.Embedding(torch.ones(4)), 1, ValueError, r"residual must have shape \(n, K\), got \(4,\)"),
        (smartaug.Embedding(torch.ones(4, 2), torch.ones(3, 2)), 1, ValueError, r"feature must have shape \(4, d\)"),
        (smartaug.Embedding(torch.ones(4, 2), None, torch.ones(4, 1)), 1, ValueError, r"loss must have shape \(4,\)"),
        (smartaug.Embedding(torch.ones(4, 0)), 1, ValueError, r"no columns.*smartaug.coreset.RandomSubset\(\)"),
    ],
)
def test_embeddings_and_budgets_that_make_no_sense(embedding, budget, error, match):
    with pytest.raises(error, match=match):
        smartaug.FacilityLocation()(embedding, budget)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"similarity": "cosine"}, "similarity must be one of 'distance', 'exp', got 'cosine'"),
        ({"method": "lazy"}, "method must be one of 'exact', 'stochastic'"),
        ({"backend": "cuda"}, "backend must be one of None, 'numba', 'torch'"),
        ({"memory": 1000}, "memory must be a number of bytes"),
        ({"epsilon": 0.0}, "epsilon must lie in"),
    ],
)
def test_settings_that_make_no_sense(arguments, match):
    with pytest.raises(ValueError, match=match):
        smartaug.FacilityLocation(**arguments)


def test_a_backend_is_never_changed_silently(monkeypatch):
    select = smartaug.FacilityLocation(backend="numba")
    with pytest.raises(ValueError, match='backend="numba" does not take features'):
        select(with_features(residuals(5)), 2)
    picks = smartaug.FacilityLocation()(residuals(50), 5)[0]
    monkeypatch.setattr(compiled, "installed", lambda: False)
    with pytest.raises(ImportError, match=r'pip install "smartaug\[fast\]"'):
        smartaug.FacilityLocation(backend="numba")
    assert torch.equal(smartaug.FacilityLocation()(residuals(50), 5)[0], picks)


def test_the_cost_of_nothing():
    with pytest.raises(ValueError, match="indices is empty"):
        smartaug.FacilityLocation().cost(residuals(3), torch.empty(0, dtype=torch.int64))


# --- many classes at once --------------------------------------------------------------------------------------------


def one_by_one(select, embedding, sizes, budgets):
    """What calls of their own select of each class, [] of those without a budget."""
    made, start = [], 0
    for number, (size, budget) in enumerate(zip(sizes, budgets, strict=True)):
        part = smartaug.Embedding(*(None if field is None else field[start : start + size] for field in embedding))
        index, weight = select(part, budget, torch.Generator().manual_seed(number))
        if budget:
            made += zip((index + start).tolist(), weight.tolist(), strict=True)
        start += size
    return dict(made)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_many_classes_at_once_are_selected_as_one_by_one(similarity, data, seed):
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 13, 64, 65, 90]), min_size=1, max_size=9))
    budgets = [data.draw(st.integers(0, size)) for size in sizes]
    rows = residuals(sum(sizes), 4, seed).residual
    kind = data.draw(st.sampled_from(["apart", "tied", "tiny"]))
    rows = {"apart": rows, "tied": (3 * rows).round(), "tiny": rows.double() * 2.0**-110}[kind]
    embedding, select = smartaug.Embedding(rows), smartaug.FacilityLocation(similarity)
    indices, weights = select.by_class(embedding, np.array(sizes), np.array(budgets), list(range(len(sizes))))
    made = dict(zip(indices.tolist(), weights.tolist(), strict=True))
    assert len(made) == len(indices) == sum(budgets)
    assert made == one_by_one(select, embedding, sizes, budgets)


@pytest.mark.parametrize(
    "settings",
    [{"backend": "torch"}, {"method": "stochastic"}, {"memory": 1 << 20}],
    ids=["torch", "stochastic", "parts"],
)
@pytest.mark.parametrize("features", [False, True])
def test_what_the_loop_does_not_do_is_selected_class_by_class(settings, features):
    sizes, budgets = [6, 0, 400, 9], [2, 0, 40, 9]
    embedding, select = residuals(415), smartaug.FacilityLocation(**settings)
    embedding = with_features(embedding) if features else embedding
    indices, weights = select.by_class(embedding, np.array(sizes), np.array(budgets), [0, 1, 2, 3])
    made = dict(zip(indices.tolist(), weights.tolist(), strict=True))
    assert made == one_by_one(select, embedding, sizes, budgets)
