"""Which batch size is chosen, decided by sizes and seconds alone."""

import pytest

from service.devices.buckets import Buckets, BucketTimes
from service.devices.policy import BatchPolicy

SIZES = Buckets((1, 2, 4, 8, 16))
LINEAR = BucketTimes(SIZES, {size: 0.006 * size for size in SIZES.sizes})  # a core
LAUNCHES = BucketTimes(SIZES, {size: 0.004 + 0.0001 * size for size in SIZES.sizes})  # a GPU
STEEP = BucketTimes(SIZES, {1: 1.0, 2: 1.1, 4: 1.2, 8: 1.3, 16: 4.0})


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 16), (16, 16)])
def test_a_batch_is_filled_up_to_the_next_size(count: int, size: int) -> None:
    assert SIZES.over(count) == size


def test_more_than_the_largest_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="17 images are more than the largest batch, 16"):
        SIZES.over(17)


@pytest.mark.parametrize(("count", "parts"), [(1, [1]), (16, [16]), (17, [16, 1]), (40, [16, 16, 8])])
def test_many_images_are_parted_into_the_fewest_batches(count: int, parts: list[int]) -> None:
    assert SIZES.parts(count) == parts


@pytest.mark.parametrize("sizes", [(), (0, 1), (2, 1), (1, 1)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Buckets(sizes)


def test_a_core_has_enough_with_one_image_and_a_gpu_with_the_largest_batch() -> None:
    assert (LINEAR.enough, LAUNCHES.enough) == (1, 16)
    assert STEEP.enough == 8


def test_a_gpu_takes_all_that_wait_and_a_core_one_by_one() -> None:
    assert [LAUNCHES.take(waiting) for waiting in (1, 3, 9, 16, 40)] == [1, 3, 9, 16, 16]
    assert [LINEAR.take(waiting) for waiting in (1, 3, 9)] == [1, 1, 1]


def test_two_full_batches_are_taken_where_they_are_faster_than_one_half_empty() -> None:
    doubling = BucketTimes(Buckets((1, 8, 16)), {1: 1.0, 8: 1.5, 16: 2.8})
    assert doubling.take(9) == 8  # 1.5 + 1.0 < 2.8
    assert doubling.take(12) == 12  # 1.5 + 1.5 > 2.8


def test_times_follow_what_is_measured() -> None:
    policy = BatchPolicy(LAUNCHES)
    assert (policy.is_enough(15), policy.is_enough(16)) == (False, True)
    for _ in range(100):
        policy.ran(16, 1.0)
    assert policy.times.seconds[16] == pytest.approx(1.0, rel=0.01)
    assert policy.times.seconds[8] == LAUNCHES.seconds[8]
    assert policy.is_enough(8)
