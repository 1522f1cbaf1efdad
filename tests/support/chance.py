"""A check that tests of random numbers share."""

from scipy import stats


def assert_even(counts, expected=None):
    """Assert that counts are those of equal chances (chi square)."""
    assert stats.chisquare(counts, expected).pvalue > 1e-6
