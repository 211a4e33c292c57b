"""Where the data that comes with the library lies: in the checkout, or inside the installed package."""

from pathlib import Path


def shipped(name: str) -> Path:
    """The file or folder `name` of data/.

    Raises:
        FileNotFoundError: if this installation holds no data.
    """
    package = Path(__file__).resolve().parents[1]
    for root in (package / "data", package.parents[1] / "data"):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"this installation holds no data/{name}; install from a checkout or from the wheel.")
