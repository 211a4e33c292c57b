"""Learning as physics: small systems, each a few functions on the four mechanisms of the library.

    dynamics, stability, plasticity, schedule     training as a flow, a map, a gated flow, a path to be differentiated
    signal, regularisation                        what depth and noise do
    sequence, objectives, contrastive, ica        free energies and formulas to minimise
    diffusion                                     the forward flow and its reversal
    attribution, phylogeny                        what a model has learned, honestly asked

None of them has its own training loop, integrator or adjoint: `flow`, `path.rollout`, `path.solve`, `fit.train`,
`fit.curvature` and `energy.free` do the work.
"""

from . import attribution as attribution
from . import contrastive as contrastive
from . import diffusion as diffusion
from . import dynamics as dynamics
from . import ica as ica
from . import objectives as objectives
from . import phylogeny as phylogeny
from . import plasticity as plasticity
from . import regularisation as regularisation
from . import schedule as schedule
from . import sequence as sequence
from . import signal as signal
from . import stability as stability
