"""What every example shares: its arguments, its figure, and the line with the checked number.

`python examples/gallery.py --out DIR` runs them all and prints a table of checked numbers and seconds.
"""

import argparse
import pathlib
import subprocess
import sys
import time

INK, RED, BLUE, GREEN, GREY = "#222222", "#c44e52", "#4c72b0", "#55a868", "#999999"


def arguments(document):
    """--out and --seed; float64 and a drawing backend without a screen."""
    import jax
    import matplotlib

    jax.config.update("jax_enable_x64", True)
    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "lines.linewidth": 1.2}
    )
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder of the figure")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def save(figure, out, script):
    """Save the figure as DIR/<name of the script>.png."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / (pathlib.Path(script).stem + ".png")
    figure.tight_layout()
    figure.savefig(target, dpi=130)
    print(f"figure:  {target}")


def check(sentence, passed):
    """Print the checked number; a wrong one ends the script with status 1."""
    print(f"checked: {sentence}")
    if not passed:
        sys.exit("         which is wrong")


def main():
    parser = argparse.ArgumentParser(description="Run every example.")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("figures"))
    parser.add_argument("only", nargs="*", help="names of scripts, all by default")
    args = parser.parse_args()
    here = pathlib.Path(__file__).parent
    failed = []
    for script in sorted(here.glob("[0-9]*.py")):
        if args.only and script.stem not in args.only:
            continue
        start = time.monotonic()
        done = subprocess.run([sys.executable, script, "--out", args.out], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        lines = [line[9:] for line in done.stdout.splitlines() if line.startswith("checked: ")]
        print(
            f"| `{script.name}` | {'; '.join(lines) or done.stderr.strip().splitlines()[-1]} | {seconds:.0f} s |",
            flush=True,
        )
        failed += [script.name] * bool(done.returncode)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
