"""The twin experiment of lorenz96.py in DAPPER: its 4D-Var, its iterative ensemble Kalman smoother and its EnKS.

    python benchmarks/odes/lorenz96_dapper.py [--cycles 400] [--seeds 1] [--methods var1 var4 ienks1 ienks4 enks4]

Needs dapper 1.7.1 in an environment of its own, not enerjax. mods/Lorenz96/sakov2008, observations every 0.2 (dko=4),
R = 1, the climatology's B times the xB of lorenz96.py; RMSE of the analysis averaged after 20 cycles. In 1.7.1 Var4D
looks its observation operator up twice, `HMM.Obs(ko)(ko)`, and stops; `Twice` answers both. One thread, CPU seconds.
"""

import argparse
import os
import time

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import dapper as dpr
import dapper.da_methods as da
import numpy as np
from dapper.mods.Lorenz96.sakov2008 import HMM

METHODS = {
    "var1": lambda: da.Var4D(B="clim", xB=0.2, Lag=1, nIter=10),
    "var4": lambda: da.Var4D(B="clim", xB=0.05, Lag=4, nIter=10),
    "ienks1": lambda: da.iEnKS("Sqrt", N=20, Lag=1, xN=2.0, nIter=10),
    "ienks4": lambda: da.iEnKS("Sqrt", N=20, Lag=4, xN=2.0, nIter=10),
    "enks4": lambda: da.EnKS("Sqrt", N=24, Lag=4, infl=1.4, rot=True),
}


class Twice:
    """The observation operator, which also answers to a second question for the time index."""

    def __init__(self, operator):
        self.operator, self.noise, self.linear = operator, operator.noise, operator.linear

    def __call__(self, x):
        return self if np.ndim(x) == 0 else self.operator(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    HMM.tseq.dko, HMM.tseq.Ko = 4, options.cycles - 1
    plain = HMM.Obs
    for name in options.methods:
        errors, spent = [], 0.0
        for seed in range(options.seeds):
            HMM.Obs = plain
            dpr.set_seed(3000 + seed)
            truth, data = HMM.simulate()
            method = METHODS[name]()
            if name.startswith("var"):
                HMM.Obs = lambda ko: Twice(plain(ko))
            begin = time.process_time()
            method.assimilate(HMM, truth, data)
            spent += time.process_time() - begin
            errors.append(float(np.mean(method.stats.err.rms.a[20:])))
        print(
            f"DAPPER {name}: analysis RMSE {np.mean(errors):.3f} ({min(errors):.3f} … {max(errors):.3f} of "
            f"{options.seeds} seeds), {options.cycles} cycles in {spent / options.seeds:.1f} CPU-s each",
            flush=True,
        )


if __name__ == "__main__":
    main()
