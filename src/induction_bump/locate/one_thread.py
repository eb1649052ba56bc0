"""One thread for small linear algebra: with more they wait for each other, and it takes four times as long."""

from threadpoolctl import threadpool_limits


def one_thread() -> threadpool_limits:
    """Hold NumPy and SciPy to one thread, until the end of a `with` or for good.

    SciPy brings a BLAS of its own, which can only be held once it is there: it is loaded first.
    """
    import scipy.linalg  # noqa: F401  # pyright: ignore[reportUnusedImport]

    return threadpool_limits(1)
