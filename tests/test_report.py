"""The report is one file that a browser shows: no other file, no network, figures inside."""

import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest

from enerjax.cli.report import Chapter, figure, write_report


@pytest.fixture
def report(tmp_path):
    fig, (ax,) = figure()
    ax.plot([0, 1], [0, 1], linewidth=8)
    chapter = Chapter("one", "A <title>", ["A paragraph."], {"error": 1.25e-9, "list": [1, 2]}, [("A line.", fig)])
    write_report(tmp_path / "report.html", "A report", [chapter])
    return tmp_path / "report.html"


def test_report_is_self_contained(report):
    page = report.read_text()
    assert "A &lt;title&gt;" in page and "1.25e-09" in page and "data:image/png;base64," in page
    assert "http://" not in page and "https://" not in page and 'src="/' not in page
    assert [p.name for p in report.parent.iterdir()] == ["report.html"]


def test_a_browser_shows_it(report):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    picture = report.with_name("page.png")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    flags += [f"--user-data-dir={report.parent / 'profile'}", "--window-size=900,1200", f"--screenshot={picture}"]
    subprocess.run([browser, *flags, report.as_uri()], check=True, capture_output=True, timeout=120)
    pixels = matplotlib.image.imread(picture)[..., :3]
    blue = (np.abs(pixels - np.array([0x1F, 0x77, 0xB4]) / 255).max(-1) < 0.05).sum()
    assert pixels.shape[:2] == (1200, 900) and blue > 500  # the thick line of the figure is on the page
