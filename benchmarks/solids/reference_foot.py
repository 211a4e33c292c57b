"""A square pulled off a foot of half its lower edge, by finite elements: a reference of tests/solids/test_supports.py.

    pip install scikit-fem              # an environment of its own
    python benchmarks/solids/reference_foot.py [CELLS PER SIDE ...]

Unit square, plane strain, E = 1, ν = 0.3, u = 0 where y = 0 and x ≤ 1/2, traction (0, −1) on the upper edge;
biquadratic elements. Prints the displacement of the corner (1, 1).
"""

import sys

import numpy as np
from skfem import Basis, ElementQuad2, ElementVector, FacetBasis, LinearForm, MeshQuad, condense, solve
from skfem.models.elasticity import lame_parameters, linear_elasticity


def corner(cells: int) -> np.ndarray:
    """u(1, 1)."""
    x = np.linspace(0.0, 1.0, cells + 1)
    mesh, element = MeshQuad.init_tensor(x, x), ElementVector(ElementQuad2())
    basis = Basis(mesh, element)
    K = linear_elasticity(*lame_parameters(1.0, 0.3)).assemble(basis)
    top = FacetBasis(mesh, element, facets=mesh.facets_satisfying(lambda x: np.isclose(x[1], 1.0)))
    f = LinearForm(lambda v, w: -v[1]).assemble(top)
    held = basis.get_dofs(lambda x: np.isclose(x[1], 0.0) & (x[0] <= 0.5 + 1e-9))
    u = solve(*condense(K, f, D=held))
    return basis.probes(np.full((2, 1), 1.0 - 1e-9)) @ u


for cells in map(int, sys.argv[1:] or (40, 80)):
    print(f"{cells} cells per side: u(1, 1) = {corner(cells)}")
