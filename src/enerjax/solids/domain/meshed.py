"""Meshes as domains: cells carry the quadrature, facets the boundary parts; read from any file that meshio knows.

All cells of one kind are one patch: its first coordinate runs over the cells, its whole part being the cell's number. A
part whose facets lie in one plane, with the body on one side, has the plane's level, so displacements can be built into
fields there; on curved parts they are left to the residual.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from .base import AbstractDomain, Part, Patch, join, plane

# kind: (dimension, corners, facets as corner numbers, simplices as corner numbers)
KINDS = {
    "line": (1, 2, (), ((0, 1),)),
    "triangle": (2, 3, ((0, 1), (1, 2), (2, 0)), ((0, 1, 2),)),
    "quad": (2, 4, ((0, 1), (1, 2), (2, 3), (3, 0)), ((0, 1, 2), (0, 2, 3))),
    "tetra": (3, 4, ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)), ((0, 1, 2, 3),)),
    "hexahedron": (
        3,
        8,
        ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
        ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6)),
    ),
}
HIGHER = {"triangle6": "triangle", "quad8": "quad", "quad9": "quad", "tetra10": "tetra", "hexahedron20": "hexahedron"}


def _simplex(v, t):
    """Collapsed coordinates: v₀ + t₀((v₁ − v₀) + t₁((v₂ − v₁) + …))."""
    inner = 0.0
    for k in range(len(t), 0, -1):
        inner = t[k - 1] * (v[k] - v[k - 1] + inner)
    return v[0] + inner


def _tensor(v, t):
    """Bilinear or trilinear, corners in VTK's order."""
    plain = lambda q: (1 - t[1]) * (q[0] + t[0] * (q[1] - q[0])) + t[1] * (q[3] + t[0] * (q[2] - q[3]))
    return plain(v) if len(t) == 2 else (1 - t[2]) * plain(v[:4]) + t[2] * plain(v[4:])


class _Cells(Patch):
    """Cells of one kind as one patch over [0, cells] × [0, 1]^(k − 1)."""

    nodes: np.ndarray
    whole: int

    def __init__(self, kind: str, nodes: np.ndarray, whole: int | None = None):
        k = KINDS[kind][0]
        local = _simplex if kind in ("line", "triangle", "tetra") else _tensor
        corners = jnp.asarray(nodes)

        def position(s):
            number = jnp.clip(jax.lax.stop_gradient(jnp.floor(s[0])).astype(int), 0, len(nodes) - 1)
            return local(corners[number], jnp.concatenate([(s[0] - number)[None], s[1:]]))

        super().__init__(position, k)
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "whole", whole or len(nodes))

    def rule(self, n):
        """About n points along each direction of the whole mesh, at least two in a cell."""
        s, w = Patch(self.map, self.dimension).rule(max(2, round(n / self.whole ** (1 / self.dimension))))
        cells = np.repeat(np.arange(len(self.nodes)), len(s))
        s = np.tile(s, (len(self.nodes), 1))
        s[:, 0] += cells
        return s, np.tile(w, len(self.nodes))


class _Facets(Part):
    """Facets whose corners already run so that the normal points outwards."""

    def place(self, rules):
        """The rules carried over; no sign to find."""
        return join([patch.place(*rule) for patch, rule in zip(self.patches, rules, strict=True)])


class Meshed(AbstractDomain):
    """The union of cells: triangles and quadrilaterals, or tetrahedra and hexahedra, with straight edges."""

    def __init__(self, points, cells: Mapping[str, np.ndarray], parts: Mapping[str, Callable | Sequence] | None = None):
        """
        Args:
            points: corners, [n, D].
            cells: {kind: corner numbers}, kind one of triangle, quad, tetra, hexahedron.
            parts: {name: which facets}: a predicate on facet centres [f, D] -> [f] bool, or facets as corner numbers.
                Facets of no part are called "boundary".

        Raises:
            ValueError: unknown kinds, degenerate cells, or a part without facets.
        """
        self.points = np.asarray(points, float)
        D = self.points.shape[1]
        wrong = [kind for kind in cells if kind not in KINDS or KINDS[kind][0] != D]
        if wrong or not cells:
            raise ValueError(f"Meshed: no cells of dimension {D} among {', '.join(cells) or 'nothing'}")
        self.cells = {kind: np.asarray(c, int)[:, : KINDS[kind][1]] for kind, c in cells.items()}
        self.lower, self.upper = self.points.min(0), self.points.max(0)
        simplices = np.concatenate([c[:, list(s)] for k, c in self.cells.items() for s in KINDS[k][3]])
        v = self.points[simplices]
        edges = np.transpose(v[:, 1:] - v[:, :1], (0, 2, 1))
        volumes = np.linalg.det(edges)
        if np.any(np.abs(volumes) < 1e-14 * self.size**D):
            raise ValueError(f"Meshed: cell {int(np.argmin(np.abs(volumes)))} has no volume")
        self._first, self._inverse = v[:, 0], np.linalg.inv(edges)
        self._height = np.abs(volumes) ** (1 / D)
        facets = self._outer()
        self._facets = _name(self.points, facets, dict(parts or {}))

    @classmethod
    def read(cls, path: str | Path, parts: Mapping[str, Callable] | None = None) -> "Meshed":
        """A mesh from a file, by meshio: named sets of facets (Gmsh's physical groups) become parts.

        Raises:
            ValueError: no cells that can be used.
        """
        import meshio

        mesh = meshio.read(path)
        blocks: dict[str, np.ndarray] = {}
        for block in mesh.cells:
            kind = HIGHER.get(block.type, block.type)
            if kind in KINDS:
                corners = block.data[:, : KINDS[kind][1]]
                blocks[kind] = np.concatenate([blocks[kind], corners]) if kind in blocks else corners
        D = max((KINDS[kind][0] for kind in blocks), default=0)
        if D < 2:
            raise ValueError(f"{path}: no triangles, quadrilaterals, tetrahedra or hexahedra")
        named = _sets(mesh, D - 1)
        cells = {kind: c for kind, c in blocks.items() if KINDS[kind][0] == D}
        used = np.unique(np.concatenate([c.ravel() for c in cells.values()]))
        renumber = np.full(len(mesh.points), -1)
        renumber[used] = np.arange(len(used))
        given: dict[str, Callable | Sequence] = {name: [renumber[f] for f in facets] for name, facets in named.items()}
        return cls(mesh.points[used][:, :D], {k: renumber[c] for k, c in cells.items()}, given | dict(parts or {}))

    def _outer(self) -> list[np.ndarray]:
        """Facets that belong to one cell only, corners turned so that the normal points out."""
        seen: dict[tuple, tuple | None] = {}
        for kind, cells in self.cells.items():
            for cell in cells:
                centre = self.points[cell].mean(0)
                for local in KINDS[kind][2]:
                    facet = tuple(int(i) for i in cell[list(local)])
                    key = tuple(sorted(facet))
                    seen[key] = None if key in seen else self._turned(facet, centre)
        return [np.array(f) for f in seen.values() if f is not None]

    def _turned(self, facet: tuple, centre) -> tuple:
        v = self.points[list(facet)]
        if len(centre) == 2:
            normal = np.array([v[1, 1] - v[0, 1], v[0, 0] - v[1, 0]])
        else:
            normal = np.cross(v[1] - v[0], v[2] - v[0])
        return facet if normal @ (v.mean(0) - centre) > 0 else facet[::-1]

    @property
    def patches(self):
        """One per kind of cell."""
        total = sum(len(c) for c in self.cells.values())
        return tuple(_Cells(kind, self.points[c], total) for kind, c in self.cells.items())

    @property
    def parts(self):
        """The named sets of facets, and "boundary" for the rest."""
        return {name: self._part(facets) for name, facets in self._facets.items()}

    def _part(self, facets: list[np.ndarray]) -> Part:
        kinds = {2: "line", 3: "triangle", 4: "quad"}
        groups = {n: self.points[np.stack([f for f in facets if len(f) == n])] for n in {len(f) for f in facets}}
        patches = tuple(_Cells(kinds[n], v, len(facets)) for n, v in groups.items())
        corners = self.points[np.unique(np.concatenate(facets))]
        first = next(iter(groups.values()))[0]
        side = first[1] - first[0]
        inward = -np.array([side[1], -side[0]]) if len(side) == 2 else -np.cross(side, first[2] - first[0])
        inward = inward / np.linalg.norm(inward)
        tolerance = 1e-9 * self.size
        flat = np.all(np.abs((corners - first[0]) @ inward) < tolerance)
        if flat and np.all((self.points - first[0]) @ inward > -tolerance):
            return _Facets(patches, *plane(first[0], inward))
        return _Facets(patches, lambda x: -jnp.ones((), x.dtype), lambda x: x)

    def distance(self, x):
        """The least violation of a cell's barycentric coordinates, times its size."""
        local = jnp.einsum("sij,sj->si", jnp.asarray(self._inverse), x[None] - jnp.asarray(self._first))
        least = jnp.minimum(jnp.min(local, axis=1), 1 - jnp.sum(local, axis=1))
        return jnp.min(-least * jnp.asarray(self._height))


def _name(points, facets, parts) -> dict[str, list[np.ndarray]]:
    """Each outer facet given to the first part that claims it."""
    left = {tuple(sorted(f.tolist())): f for f in facets}
    found: dict[str, list[np.ndarray]] = {}
    for name, which in parts.items():
        if callable(which):
            keys = list(left)
            centres = np.array([points[left[k]].mean(0) for k in keys]).reshape(len(keys), points.shape[1])
            chosen = [k for k, inside in zip(keys, np.asarray(which(centres)), strict=True) if inside]
        else:
            chosen = [k for k in (tuple(sorted(int(i) for i in f)) for f in which) if k in left]
        if not chosen:
            raise ValueError(f"Meshed: no facet of the boundary belongs to part {name!r}")
        found[name] = [left.pop(k) for k in chosen]
    return found | ({"boundary": list(left.values())} if left else {})


def _sets(mesh, dimension: int) -> dict[str, list[np.ndarray]]:
    """{name: facets} of a meshio mesh: Gmsh's physical groups, and cell sets of other formats."""
    found: dict[str, list[np.ndarray]] = {}
    kinds = [HIGHER.get(block.type, block.type) for block in mesh.cells]
    usable = [k in KINDS and KINDS[k][0] == dimension for k in kinds]
    add = lambda name, b, rows: found.setdefault(name, []).extend(mesh.cells[b].data[rows, : KINDS[kinds[b]][1]])
    tags = mesh.cell_data.get("gmsh:physical")
    if tags is not None:
        for name, (tag, dim) in mesh.field_data.items():
            for b, ok in enumerate(usable):
                if ok and dim == dimension and np.any(tags[b] == tag):
                    add(name, b, np.flatnonzero(tags[b] == tag))
    for name, per_block in mesh.cell_sets.items():
        for b, rows in enumerate(per_block):
            fresh = tags is None or name not in mesh.field_data  # physical groups are there already
            if usable[b] and fresh and rows is not None and len(rows) and not name.startswith("gmsh:"):
                add(name, b, np.asarray(rows, int))
    return found
