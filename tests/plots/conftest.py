"""What the tests of figures share: the study's style, and an Axes to draw on."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from woofkit.plots.style import use_style


@pytest.fixture(autouse=True)
def style():
    with matplotlib.rc_context():
        use_style()
        yield


@pytest.fixture
def ax():
    return plt.figure().add_subplot()
