import re

import pytest
import torch
from hypothesis import given, settings, strategies as st

from decouple.data.splits import draw, split_test, split_training
from decouple.errors import DataError


@st.composite
def _divisions(draw_):
    """(labels, train, smaller train, validation, prior, seed), with sizes that fit."""
    labels = torch.tensor(draw_(st.lists(st.integers(0, 5), min_size=3, max_size=80)))
    validation = draw_(st.integers(1, len(labels) - 2))
    prior = draw_(st.integers(1, len(labels) - validation - 1))
    train = draw_(st.integers(1, len(labels) - validation - prior))
    return labels, train, draw_(st.integers(1, train)), validation, prior, draw_(st.integers(0, 2**63 - 1))


@settings(deadline=None, max_examples=40)
@given(_divisions())
def test_training_splits_are_exact_disjoint_and_nested(division):
    labels, train, smaller, validation, prior, seed = division
    large = split_training(labels, train=train, validation=validation, prior=prior, seed=seed)
    small = split_training(labels, train=smaller, validation=validation, prior=prior, seed=seed)

    assert [len(positions) for positions in large] == [train, validation, prior]
    together = torch.cat(large)
    assert len(together.unique()) == len(together)
    assert together.min() >= 0
    assert together.max() < len(labels)
    assert set(small.train.tolist()) <= set(large.train.tolist())
    assert torch.equal(small.validation, large.validation)
    assert torch.equal(small.prior, large.prior)


@settings(deadline=None, max_examples=40)
@given(
    classes=st.integers(1, 7),
    each=st.integers(3, 12),
    seed=st.integers(0, 2**63 - 1),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_equal_classes_stay_within_one_image(classes, each, seed, shares):
    labels = torch.arange(classes).repeat_interleave(each)
    validation = 1 + int(shares[0] * (len(labels) - 3))
    prior = 1 + int(shares[1] * (len(labels) - validation - 2))
    train = 1 + int(shares[2] * (len(labels) - validation - prior - 1))
    for positions in split_training(labels, train=train, validation=validation, prior=prior, seed=seed):
        counts = torch.bincount(labels[positions], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_unequal_classes_are_drawn_in_proportion():
    labels = torch.tensor([0] * 800 + [1] * 150 + [2] * 50)
    splits = split_training(labels, train=400, validation=100, prior=200, seed=3)
    assert torch.bincount(labels[splits.validation]).tolist() == [80, 15, 5]
    assert torch.bincount(labels[splits.prior]).tolist() == [160, 30, 10]
    assert torch.bincount(labels[splits.train]).tolist() == [320, 60, 20]


def test_train_none_takes_all_that_is_left():
    labels = torch.arange(40) % 4
    splits = split_training(labels, train=None, validation=5, prior=6, seed=0)
    assert torch.equal(torch.cat(splits).sort().values, torch.arange(40))


def test_a_seed_repeats_its_splits_and_another_does_not():
    labels = torch.arange(200) % 4

    def split(seed):
        return torch.cat(split_training(labels, train=20, validation=20, prior=20, seed=seed))

    assert torch.equal(split(1), split(1))
    assert not torch.equal(split(1), split(2))


def test_a_sorted_test_set_is_permuted_even_when_all_is_taken():
    labels = torch.arange(10).repeat_interleave(100)
    positions = split_test(labels, test=None, seed=0)
    assert torch.equal(positions.sort().values, torch.arange(1000))
    # Batches are like random ones: neither of one class nor balanced by the labels.
    counts = torch.stack([torch.bincount(labels[batch], minlength=10) for batch in positions.split(100)])
    assert counts.max() < 30
    assert (counts != 10).any(1).all()


def test_a_test_subset_is_balanced():
    labels = torch.arange(10).repeat_interleave(100)
    positions = split_test(labels, test=50, seed=0)
    assert torch.bincount(labels[positions]).tolist() == [5] * 10


def test_draw_keeps_the_order_of_what_it_draws_from():
    order = torch.tensor([7, 2, 5, 0, 3, 6, 1, 4])
    drawn, rest = draw(order, torch.zeros(8, dtype=torch.int64), 3)
    assert drawn.tolist() == [7, 2, 5]
    assert rest.tolist() == [0, 3, 6, 1, 4]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"validation": 0}, "digits: validation = 0 must be at least 1; give --data.validation"),
        ({"prior": -2}, "digits: prior = -2 must be at least 1"),
        ({"train": 0}, "digits: train = 0 must be at least 1"),
        (
            {"train": 90},
            r"digits has 100 training images, but train 90 \+ validation 10 \+ prior 20 = 120 are asked for; "
            "give --data.train 70 or less",
        ),
        ({"validation": 80}, r"digits has 100 training images: validation 80 \+ prior 20 = 100 leave none to train on"),
    ],
)
def test_impossible_training_sizes(sizes, message):
    sizes = {"train": None, "validation": 10, "prior": 20} | sizes
    with pytest.raises(DataError, match=message.replace("--", "")) as refused:
        split_training(torch.arange(100) % 2, **sizes, seed=0, name="digits")
    assert re.search(message, refused.value.message), "the command line names options"


def test_impossible_test_sizes():
    with pytest.raises(DataError, match=r"digits has 10 test images, but 11 are asked for; give data.test"):
        split_test(torch.arange(10) % 2, test=11, seed=0, name="digits")
    with pytest.raises(DataError, match="digits: test = 0 must be at least 1"):
        split_test(torch.arange(10) % 2, test=0, seed=0, name="digits")
