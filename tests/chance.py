"""What the tests of draws share."""

from scipy import stats


def assert_even(counts, expected=None):
    """Counts are those of equal chances (chi square)."""
    assert stats.chisquare(counts, expected).pvalue > 1e-6
