"""Stage 2 of 3: DF-MP2/def2-SVP energies and gradients with Psi4 (Debian: `apt-get install psi4`).

    export PYTHONPATH=/usr/lib/x86_64-linux-gnu PSIDATADIR=/usr/share/psi4 OMP_NUM_THREADS=1
    /usr/bin/python3 label.py malonaldehyde_geometries.npz malonaldehyde_labels.jsonl --worker 0 --of 2 &
    /usr/bin/python3 label.py malonaldehyde_geometries.npz malonaldehyde_labels.jsonl --worker 1 --of 2

Frozen-core DF-MP2 on DF-RHF, tightly converged. There is no numerical grid, so the labels are exactly invariant to
rotation and the forces are the exact derivative of the energies (to about 1e-6 Eh/a0). Two to six CPU-seconds each.
Resumable: indices already in any LABELS.* file are skipped. Units in the file: hartree, hartree/bohr.
"""

import argparse
import glob
import json
import sys
import time

import numpy as np
import psi4

SYMBOL = {1: "H", 6: "C", 7: "N", 8: "O"}


def finished(labels):
    done = set()
    for name in glob.glob(labels + "*"):
        with open(name) as lines:
            for line in lines:
                try:
                    done.add(json.loads(line)["i"])
                except json.JSONDecodeError:  # the last line of a killed run
                    continue
    return done


def geometry(numbers, positions):
    rows = [f"{SYMBOL[int(z)]} {p[0]:.12f} {p[1]:.12f} {p[2]:.12f}" for z, p in zip(numbers, positions, strict=True)]
    return psi4.geometry("0 1\n" + "\n".join(rows) + "\nsymmetry c1\nno_com\nno_reorient\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("geometries")
    parser.add_argument("labels")
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--of", type=int, default=1)
    a = parser.parse_args()
    psi4.core.set_output_file("/dev/null", False)
    psi4.set_num_threads(1)
    psi4.set_memory("1500 MB")
    psi4.set_options(
        {
            "scf_type": "df",
            "mp2_type": "df",
            "freeze_core": True,
            "e_convergence": 1e-9,
            "d_convergence": 1e-8,
            "guess": "sad",
        }
    )
    data = np.load(a.geometries)
    done = finished(a.labels)
    with open(f"{a.labels}.{a.worker}", "a") as out:
        for i in range(a.worker, len(data["positions"]), a.of):
            if i in done:
                continue
            start = time.process_time()
            try:
                gradient = psi4.gradient("mp2/def2-svp", molecule=geometry(data["numbers"], data["positions"][i]))
            except Exception as error:  # one SCF that does not converge must not stop a night's work
                print(i, "FAILED", repr(error)[:150], file=sys.stderr)
                continue
            record = {
                "i": i,
                "e": psi4.variable("MP2 TOTAL ENERGY"),
                "escf": psi4.variable("SCF TOTAL ENERGY"),
                "g": np.round(np.asarray(gradient), 10).tolist(),
                "cpu": round(time.process_time() - start, 2),
            }
            out.write(json.dumps(record) + "\n")
            out.flush()
            psi4.core.clean()
            psi4.core.clean_variables()


if __name__ == "__main__":
    main()
