"""Placeholder replaced below."""


def solve_ritz(*a):
    raise NotImplementedError
