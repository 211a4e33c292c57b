"""Meshes of domains, for files and figures, and meshes read from files (meshio), as domains."""

import jax
import jax.numpy as jnp
import meshio
import numpy as np

from .domain import AbstractDomain, Meshed

CORNERS = {
    1: [(0,), (1,)],
    2: [(0, 0), (1, 0), (1, 1), (0, 1)],
    3: [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)],
}
CELLS = {1: "line", 2: "quad", 3: "hexahedron"}


def mesh_of(domain: AbstractDomain, n: int = 24) -> meshio.Mesh:
    """A mesh of about n cells along each direction of each patch. Cells cut away by a Boolean operation are left
    out. A domain that is a mesh is its own.
    """
    if isinstance(domain, Meshed):
        padded = np.pad(domain.points, ((0, 0), (0, 3 - domain.dimension)))
        return meshio.Mesh(padded, list(domain.cells.items()))
    points, cells, count = [], [], 0
    for patch in domain.patches:
        k = patch.dimension
        shares = [max(2, round(n * s)) for s in (patch.shares or (1.0,) * k)]
        grades = patch.grades or (1.0,) * k
        axes = [np.linspace(0, 1, m + 1) ** g for m, g in zip(shares, grades, strict=True)]
        s = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
        x = np.asarray(jax.jit(jax.vmap(patch.map))(jnp.asarray(s)))
        number = np.arange(len(s)).reshape([m + 1 for m in shares])
        corner = lambda c, number=number, shares=shares: number[
            tuple(slice(o, o + m) for o, m in zip(c, shares, strict=True))
        ].ravel()
        cells.append(np.stack([corner(c) for c in CORNERS[k]], axis=1) + count)
        points.append(x)
        count += len(x)
    x, quads = np.concatenate(points), np.concatenate(cells)
    centres = x[quads].mean(axis=1)
    inside = np.asarray(domain.contains(jnp.asarray(centres), 1e-3))
    quads = quads[inside]
    used, quads = np.unique(quads, return_inverse=True)
    x, quads = x[used], quads.reshape(-1, len(CORNERS[domain.dimension]))
    padded = np.concatenate([x, np.zeros((len(x), 3 - x.shape[1]))], axis=1)
    return meshio.Mesh(padded, [(CELLS[domain.dimension], quads)])
