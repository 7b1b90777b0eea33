"""The ways of a task: their entropy and their changes between plans, by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.tasks.registry import find_task
from pipeline.tasks.ways import carry_out, count_switches, entropy_terms


def test_entropy_of_equal_ways_is_all_and_of_one_way_nothing() -> None:
    all_ways = np.stack(np.meshgrid(range(2), range(3), range(4)), -1).reshape(24, 3)
    assert_allclose(entropy_terms(all_ways, np.log2(24)), 1)
    assert_array_equal(entropy_terms(np.tile(all_ways[7], (9, 1)), np.log2(24)), 0)


def test_entropy_terms_by_hand() -> None:
    taken = np.array([[0, 1], [0, 1], [1, 1], [0, -1], [-1, -1], [1, 0]])
    half, quarter = 1 / 2, 2 / 2  # bits over the demonstrators' two
    assert_allclose(entropy_terms(taken, 2.0), [half, half, quarter, 0, 0, quarter])


def test_episodes_without_a_way_have_no_entropy() -> None:
    assert_array_equal(entropy_terms(np.full((5, 2), -1), 2.0), np.zeros(5))
    one_way_or_none = np.array([[0], [-1], [0], [-1]])
    assert_array_equal(entropy_terms(one_way_or_none, 1.0), 0)  # failing is no second way


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 2)), min_size=1, max_size=40))
def test_entropy_lies_in_its_bounds_in_any_order(ways: list[tuple[int, int]]) -> None:
    taken = np.array(ways)
    terms = entropy_terms(taken, float(np.log2(6)))
    complete = (taken >= 0).all(1)
    assert (terms >= 0).all() and (terms[~complete] == 0).all()
    assert terms.mean() <= complete.mean() + 1e-12
    assert_array_equal(entropy_terms(taken[::-1], float(np.log2(6))), terms[::-1])


def test_switches_count_decisions_that_both_plans_make() -> None:
    before = np.array([[0, 1, -1], [0, 1, 2], [0, -1, 2], [-1, -1, -1]])
    after = np.array([[-1, 2, 3], [0, 1, 2], [1, 1, 0], [0, 0, 0]])
    assert_array_equal(count_switches(before, after), [1, 0, 2, 0])
    assert_array_equal(count_switches(after, before), [1, 0, 2, 0])


def test_a_plan_is_carried_out_as_its_actions_would_be() -> None:
    world = find_task("avoiding").world
    generator = np.random.default_rng(0)
    states, chunks = world.draw_starts(generator, 3), generator.uniform(-1, 1, (3, 8, 2))
    found = carry_out(world, states, chunks)
    assert found.shape == (3, 9, 4)
    for plan in range(3):
        alone, _ = world.simulate(lambda step, _: chunks[[plan], step], states[[plan]], np.zeros((1, 8, 2)), 1)  # noqa: B023
        assert_array_equal(found[[plan]], alone)
